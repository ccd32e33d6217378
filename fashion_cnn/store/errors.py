"""What a tracking store's errors come down to: one line that says why and what to do."""

from __future__ import annotations

from urllib.parse import urlsplit

from fashion_cnn.store.address import Address, StoreError

LOCKED = "database is locked"  # how SQLite says so
FOREIGN_HOST = "Invalid Host header"  # MLflow's server, asked by a name that is none of its --allowed-hosts
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # how MLflow's errors say so


class StoreBusy(StoreError):
    """Another program holds the database for itself: it may be free again soon."""


class store_errors:
    """Within it, MLflow's and the database's errors become a StoreError of one line."""

    def __init__(self, address: Address) -> None:
        """Of the store at an address."""
        self.address = address

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Raise a StoreError in place of any other error; a signal passes."""
        if error is None or isinstance(error, StoreError) or not isinstance(error, Exception):
            return
        reason = self.address.without_password(reason_of(error))
        status, name = getattr(error, "get_http_status_code", int)(), self.address.name
        if status == 401:
            raise StoreError(unknown_user(self.address)) from error
        if status == 403 and FOREIGN_HOST in reason:
            raise StoreError(
                f"the tracking server {name} does not go by the name {urlsplit(name).netloc}: use a name of its "
                "--allowed-hosts, or have this one added there"
            ) from error
        if status == 403:
            raise StoreError(
                f"the tracking server {name} does not allow this user that; its administrator can, with EDIT for the "
                f"study's experiment ({reason})"
            ) from error
        busy_or_not = StoreBusy if LOCKED in reason else StoreError
        raise busy_or_not(f"the tracking store {name} did not answer as it should: {reason}") from error


def unknown_user(address: Address) -> str:
    """What to tell somebody whom a server does not let in."""
    return (
        f"the tracking server {address.name} asks for a user that it knows, with the right password: set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def reason_of(error: BaseException) -> str:
    """What an error comes down to, in one line: the system's own words, or else what it was raised from."""
    cause: BaseException | None = error
    system = None
    while cause is not None:
        system = cause if isinstance(cause, OSError) and cause.strerror else system
        cause = cause.__cause__ or cause.__context__
    if system is not None:
        path = system.filename2 or system.filename
        return f"{system.strerror}: {path}" if path else str(system.strerror)
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
