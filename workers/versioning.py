"""Worker versioning: the worker's place in a Temporal worker deployment.

A deployment's workers get no calls until one of its versions is the current one. The worker logs this, because a new
deployment would look dead otherwise.
"""

import logging
from typing import Any, Final

from temporalio.api.deployment.v1 import RoutingConfig
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig, WorkerDeploymentVersion

from .settings import WorkerSettings

logger = logging.getLogger("durable_llm.worker")

_BEHAVIORS: Final = {
    "auto-upgrade": VersioningBehavior.AUTO_UPGRADE,
    "pinned": VersioningBehavior.PINNED,
}


def versioning_options(settings: WorkerSettings) -> dict[str, Any]:
    """Temporal's options for a versioned worker. {} for a worker without a version."""
    if not settings.deployment_name:
        return {}
    return {
        "deployment_config": WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(settings.deployment_name, settings.build_id),
            use_worker_versioning=True,
            default_versioning_behavior=_BEHAVIORS[settings.versioning],
        )
    }


async def log_current_version(client: Client, settings: WorkerSettings) -> None:
    """Log how to send calls to a versioned worker whose version is not the current one."""
    name, build_id = settings.deployment_name, settings.build_id
    if not name:
        return
    try:
        current = await _current_build(client, name)
    except RPCError as error:
        logger.warning("cannot check the current version of deployment %r: %s", name, error.message)
        return
    command = f"temporal worker deployment set-current-version --deployment-name {name} --build-id {build_id}"
    if current is None:
        logger.warning("deployment %r has no current version, so its workers get no calls; run '%s'", name, command)
    elif current != build_id:
        logger.info("new calls go to build %r; to send them to this worker, run '%s'", current, command)


async def _current_build(client: Client, name: str) -> str | None:
    """The build that gets new calls. None: the deployment has no current version."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    try:
        answer = await client.workflow_service.describe_worker_deployment(request)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:  # its first worker creates it
            return None
        raise
    routing: RoutingConfig = answer.worker_deployment_info.routing_config
    return routing.current_deployment_version.build_id or None
