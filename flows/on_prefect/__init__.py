"""The Prefect side: flows with typed forms, deployments, the nightly service, what the UI shows, the server."""
