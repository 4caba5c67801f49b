import uuid
from datetime import datetime
from app.schemas.execution import ExecutionCreate, ExecutionOut, ExecutionStatus

# In-memory store (replace with proper storage later)
_executions: dict[str, ExecutionOut] = {}

def start_execution(request: ExecutionCreate) -> ExecutionOut:
    """Start a new execution."""
    execution = ExecutionOut(
        id=str(uuid.uuid4()),
        project_id=request.project_id,
        bead_id=request.bead_id,
        status=ExecutionStatus.PENDING,
        started_at=datetime.utcnow(),
    )
    _executions[execution.id] = execution
    # TODO: Actually start the container execution
    return execution

def get_execution(execution_id: str) -> ExecutionOut | None:
    """Get execution by ID."""
    return _executions.get(execution_id)

def list_executions(project_id: str | None = None) -> list[ExecutionOut]:
    """List executions, optionally filtered by project."""
    executions = list(_executions.values())
    if project_id:
        executions = [e for e in executions if e.project_id == project_id]
    return executions
