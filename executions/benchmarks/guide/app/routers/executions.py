from fastapi import APIRouter, HTTPException
from app.schemas.execution import ExecutionCreate, ExecutionOut
from app.services import execution as execution_service

router = APIRouter(prefix="/executions", tags=["executions"])

@router.post("/", response_model=ExecutionOut, status_code=201)
def create_execution(request: ExecutionCreate):
    """Start a new execution."""
    return execution_service.start_execution(request)

@router.get("/{execution_id}", response_model=ExecutionOut)
def get_execution(execution_id: str):
    """Get execution status."""
    execution = execution_service.get_execution(execution_id)
    if not execution:
        raise HTTPException(status_code=404, detail="Execution not found")
    return execution

@router.get("/", response_model=list[ExecutionOut])
def list_executions(project_id: str | None = None):
    """List executions."""
    return execution_service.list_executions(project_id)
