"""Path managers: one policy per file, each a subclass of ``base.PathManager``.

There is no table by name here: ``Endpoints`` and ``NdiffPorts`` need to be told what to do, so a
connection is given what makes its path manager (``lambda: NdiffPorts(3)``).
"""

from __future__ import annotations

from mptcplab.stack.path_managers.base import PathManager
from mptcplab.stack.path_managers.endpoints import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.path_managers.link_aware import LinkAwareEndpoints
from mptcplab.stack.path_managers.ndiffports import NdiffPorts, path_manager_for_ndiffports
from mptcplab.stack.path_managers.retries import Retries

__all__ = [
    "Endpoint",
    "EndpointFlag",
    "Endpoints",
    "FullMesh",
    "InitialOnly",
    "Limits",
    "LinkAwareEndpoints",
    "NdiffPorts",
    "PathManager",
    "Retries",
    "path_manager_for_ndiffports",
]
