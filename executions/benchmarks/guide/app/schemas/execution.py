from pydantic import BaseModel
from datetime import datetime
from enum import Enum

class ExecutionStatus(str, Enum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

class ExecutionCreate(BaseModel):
    """Request to start an execution."""
    project_id: str
    bead_id: str
    context: str | None = None

class ExecutionOut(BaseModel):
    """Execution response."""
    id: str
    project_id: str
    bead_id: str
    status: ExecutionStatus
    started_at: datetime
    completed_at: datetime | None = None
    output: str | None = None
