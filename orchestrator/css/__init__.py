"""The service's HTTP: the only place that speaks it."""

from orchestrator.css.client import CssClient
from orchestrator.css.credentials import (
    CredentialProvider,
    NoCredentials,
    Secret,
    TokenCredentials,
    credentials_from_environment,
)

__all__ = [
    "CredentialProvider",
    "CssClient",
    "NoCredentials",
    "Secret",
    "TokenCredentials",
    "credentials_from_environment",
]
