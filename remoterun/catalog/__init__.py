"""The scripts folder: find, describe, watch."""

from remoterun.catalog.catalog import Catalog
from remoterun.catalog.describe import Script
from remoterun.catalog.parameters import Checked, Parameters
from remoterun.catalog.settings import ScriptSettings

__all__ = ["Catalog", "Checked", "Parameters", "Script", "ScriptSettings"]
