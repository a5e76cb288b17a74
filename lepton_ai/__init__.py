"""Lepton for programs: load data, train, deploy, predict and watch, against a running Lepton."""

from lepton.errors import Busy, Invalid, LeptonError, Missing, Refused, Unavailable
from lepton_ai._async_client import AsyncLeptonClient
from lepton_ai._client import LeptonClient
from lepton_ai._data import Dataset
from lepton_ai._files.uploading import Upload
from lepton_ai._models import Deployment, Model
from lepton_ai._monitor.health import Health

__all__ = ["AsyncLeptonClient", "Busy", "Dataset", "Deployment", "Health", "Invalid", "LeptonClient", "LeptonError",
           "Missing", "Model", "Refused", "Unavailable", "Upload"]
