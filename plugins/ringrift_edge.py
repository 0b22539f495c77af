"""The door for hosts of role edge, in the one process that is it."""

import os
import sys
from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from ringrift_ops.platform.component import DOOR_VARIABLE

IS_DOOR = bool(os.environ.get(DOOR_VARIABLE)) and "api-server" in sys.argv


class RingRiftEdgePlugin(AirflowPlugin):
    """Found by Airflow in the plugins folder; empty everywhere else."""

    name = "ringrift_edge"
    if IS_DOOR:
        try:
            from ringrift_ops.web import edge_door as door

            fastapi_apps: ClassVar = [door.exchange()]
            fastapi_root_middlewares: ClassVar = [door.only_edge()]
        except Exception as error:
            # Airflow would go on without the plugin, and serve everything to whoever has the cluster's secret.
            raise SystemExit(f"the Edge door cannot be opened: {error}") from error
