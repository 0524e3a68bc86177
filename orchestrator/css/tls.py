"""Whom we trust at the other end, and what we show there; verification cannot be turned off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, SSLError, create_default_context
from typing import NoReturn

from orchestrator.config import CloudSettings
from orchestrator.errors import UsageError
from orchestrator.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The files of certificates and keys, in PEM; the default trusts what the system trusts."""

    ca_file: Path | None = None
    """Authorities to trust besides the system's."""
    client_cert: Path | None = None
    """Our own certificate, with those between it and its authority."""
    client_key: Path | None = None
    """Its key; None if that stands in the file of the certificate."""
    passphrase: Secret | None = None
    """What the key is encrypted with, if it is."""

    def context(self) -> SSLContext | bool:
        """Return what verifies and proves; True for the usual verification and nothing else.

        Raises:
            UsageError: a file cannot be read or used; names it.
        """
        if self.ca_file is None and self.client_cert is None:
            return True
        context = create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        if self.ca_file is not None:
            _trust(context, self.ca_file)
        if self.client_cert is not None:
            self._show(context, self.client_cert)
        return context

    def _show(self, context: SSLContext, cert: Path) -> None:
        key = self.client_key or cert
        doing = f"reading the client certificate {cert}"
        if key != cert:
            doing = f"{doing} and its key {key}"
        try:
            # With a passphrase of ours, or none: openssl would ask for it on the terminal.
            context.load_cert_chain(cert, key, self._passphrase_of)
        except SSLError as exc:
            raise UsageError(f"{doing}: {self._wrong_pair(exc)}") from exc
        except OSError as exc:
            raise UsageError(
                f"{doing}: {exc.strerror or exc}; check the names and the permissions"
            ) from exc

    def _passphrase_of(self) -> str:
        return _refuse_to_ask() if self.passphrase is None else self.passphrase.reveal()

    def _wrong_pair(self, error: SSLError) -> str:
        """Say what is wrong with certificate and key."""
        if error.reason == "KEY_VALUES_MISMATCH":
            return "they do not belong together; name the key of this certificate"
        if self.passphrase is not None:
            return (
                f"they cannot be used ({error.reason or 'unreadable'}); check that both are PEM "
                "files, and the passphrase"
            )
        return (
            f"they cannot be used ({error.reason or 'unreadable'}); check that both are PEM files"
        )


USUAL = Tls()
"""What the system trusts, and nothing to show."""


def tls_for(settings: CloudSettings, environ: Mapping[str, str]) -> Tls:
    """Return what the settings say of certificates.

    Raises:
        UsageError: there is a key without a certificate, or the variable that holds the passphrase
            is not set.
    """
    if settings.client_cert is None and settings.client_key is not None:
        raise UsageError(
            f"the client key {settings.client_key} belongs to a certificate; name that, too, with "
            "--client-cert"
        )
    name, passphrase = settings.client_key_password_env, None
    if name is not None and settings.client_cert is not None:
        value = environ.get(name, "")
        if not value:
            raise UsageError(
                f"looking for the passphrase of the client key: {name} is not set, and "
                "cloud.client_key_password_env names it; set it, or name another variable"
            )
        passphrase = Secret(value)
    return Tls(
        ca_file=settings.ca_file,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
        passphrase=passphrase,
    )


def _trust(context: SSLContext, ca_file: Path) -> None:
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"reading the CA file {ca_file}: {exc}; name a file of PEM certificates"
        ) from exc


def _refuse_to_ask() -> NoReturn:
    raise UsageError(
        "reading the client key: it is encrypted; name the variable that holds its passphrase with "
        "--client-key-password-env"
    )
