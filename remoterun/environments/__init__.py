"""Environments of scripts' own: the packages that their metadata asks for, built by uv, shared by equal needs."""

from remoterun.environments.folder import EnvironmentFolder
from remoterun.environments.keeper import EnvironmentFailed, Environments
from remoterun.environments.needs import Needs, needs_of

__all__ = ["EnvironmentFailed", "EnvironmentFolder", "Environments", "Needs", "needs_of"]
