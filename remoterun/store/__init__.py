"""Where jobs, their event logs and refused calls are kept."""
