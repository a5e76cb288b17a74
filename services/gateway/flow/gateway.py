"""Everything the gateway does, in one object for its doors."""

from dataclasses import dataclass

from services.gateway.core.auth import Caller
from services.gateway.flow.access import Access
from services.gateway.flow.audit import AuditLog
from services.gateway.flow.commands import Commands
from services.gateway.flow.data import Data
from services.gateway.flow.datasets.datasets import Datasets
from services.gateway.flow.datasets.orders import Orders
from services.gateway.flow.intake.alerts import Alerts
from services.gateway.flow.intake.letters import Letters
from services.gateway.flow.intake.uploads import Uploads
from services.gateway.flow.models import Models
from services.gateway.flow.operations import Operations
from services.gateway.flow.pipelines import Pipelines, Pulled
from services.gateway.flow.predictions import Predictions
from services.gateway.flow.quality import Quality
from services.gateway.flow.registry.cards import Cards
from services.gateway.flow.registry.exports import Exports
from services.gateway.flow.registry.imports import Imports

__all__ = ["Caller", "Gateway"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The verbs by noun."""

    access: Access
    pipelines: Pipelines
    pulled: Pulled
    data: Data
    datasets: Datasets
    orders: Orders
    uploads: Uploads
    letters: Letters
    audit: AuditLog
    alerts: Alerts
    quality: Quality
    predictions: Predictions
    models: Models
    cards: Cards
    exports: Exports
    imports: Imports
    operations: Operations
    commands: Commands
