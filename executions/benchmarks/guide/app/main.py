from fastapi import FastAPI
from app.routers import executions  # Add import

app = FastAPI(title="Claude Dev Container")

app.include_router(executions.router)  # Add router
