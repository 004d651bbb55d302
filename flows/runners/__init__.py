"""Where work runs: threads of this process, or Prefect tasks. One contract for all."""
