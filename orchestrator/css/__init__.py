"""The service's HTTP: the only place that speaks it."""

from orchestrator.css.client import CssClient
from orchestrator.css.credentials import (
    CredentialProvider,
    NoCredentials,
    TokenCredentials,
    credentials_from_environment,
)
from orchestrator.secret import Secret

__all__ = [
    "CredentialProvider",
    "CssClient",
    "NoCredentials",
    "Secret",
    "TokenCredentials",
    "credentials_from_environment",
]
