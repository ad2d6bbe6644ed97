from mptcplab.laboratory import Capture as Capture
from mptcplab.laboratory import Run as Run
from mptcplab.laboratory import Sweep as Sweep
from mptcplab.laboratory import compare as compare
from mptcplab.laboratory import inspect as inspect
from mptcplab.laboratory import load as load
from mptcplab.laboratory import overlay as overlay
from mptcplab.laboratory import run as run
from mptcplab.laboratory import sweep as sweep

__version__: str
