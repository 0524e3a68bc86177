"""The service's HTTP: the only place that speaks it."""

from orchestrator.css.book import CredentialBook
from orchestrator.css.client import CssClient
from orchestrator.css.credentials import CredentialProvider, NoCredentials, TokenCredentials
from orchestrator.css.iam import Prompt
from orchestrator.css.sources import Source, Surroundings
from orchestrator.secret import Secret

__all__ = [
    "CredentialBook",
    "CredentialProvider",
    "CssClient",
    "NoCredentials",
    "Prompt",
    "Secret",
    "Source",
    "Surroundings",
    "TokenCredentials",
]
