"""Optuna's study in PostgreSQL, for searches over many hosts: clear errors, one driver, patience with outages.

The address may hold a password; it is never stored, shown or logged: `shown` is what may be.
"""

from __future__ import annotations

import asyncio
import socket
import time
import warnings
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from tuner.errors import TunerError
from tuner.search.mirror import MirroredStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

VARIABLE: Final = "TRTUNE_STORAGE"
"""Environment variable that holds the address: how the worker gets it, since its arguments are seen by everybody."""

HEARTBEAT_S: Final = 20
GRACE_S: Final = 120
"""A trial whose driver has given no sign of life for so long is lost and queued again."""

PATIENCE_S: Final = 300.0
"""How long an outage of the database is waited for."""

CONNECT_TIMEOUT_S: Final = 5
RETRY_S: Final = 1.0
LOST_RETRIES: Final = 3
_APPLICATION: Final = "trtune"

_BEAT: Final = sqlalchemy.text(
    "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT unnest(CAST(:trials AS INTEGER[])), now()"
    " ON CONFLICT (trial_id) DO UPDATE SET heartbeat = excluded.heartbeat"
)
"""What Optuna's `record_heartbeat` does for one trial in a transaction of its own, for all of them at once."""

T = TypeVar("T")


class BadStorage(TunerError):
    """The address of the storage, or what is behind it, cannot be used; waiting would not help."""


class StorageGone(TunerError):
    """The database does not answer; it may come back."""


def storage_url(address: str) -> URL:
    """The address of a PostgreSQL database, for the driver psycopg.

    Raises:
        BadStorage: If it is none.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise BadStorage("--storage: not an address; write postgresql://USER@HOST:PORT/DATABASE") from None
    if url.get_backend_name() not in ("postgresql", "postgres") or not url.database:
        raise BadStorage(f"--storage {shown(url)}: write postgresql://USER@HOST:PORT/DATABASE")
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """An address without its password and its options, for people and for the session."""
    return URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database).render_as_string()


@dataclass(slots=True)
class SharedStorage:
    """A study's place in PostgreSQL, held by this driver alone.

    Attributes:
        optuna: The storage as Optuna takes it, with the trials in memory: nobody else writes to the study.
        study: Name of the study.
        address: Where it is, without secrets.
    """

    optuna: MirroredStorage
    study: str
    address: str
    _database: RDBStorage
    _locks: Engine
    _lock: Connection | None = None

    @classmethod
    def open(cls, address: str, study: str) -> SharedStorage:
        """Connect, make Optuna's tables where there are none, and take the study for this driver.

        Args:
            address: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
            study: Name of the study.

        Raises:
            BadStorage: If address, password or schema cannot be used, or another driver holds the study.
            StorageGone: If nobody answers.
        """
        url = storage_url(address)
        where = shown(url)
        arguments = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": f"{_APPLICATION} {socket.gethostname()}"}
        with _told(where):
            locks = sqlalchemy.create_engine(url, connect_args=arguments, poolclass=sqlalchemy.pool.NullPool)
            _require_optuna_or_empty(locks, where)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                storage = RDBStorage(
                    url.render_as_string(hide_password=False),
                    engine_kwargs={"connect_args": arguments, "pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_S,
                    grace_period=GRACE_S,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=LOST_RETRIES),
                )
        shared = cls(MirroredStorage(storage), study, where, storage, locks)
        shared.hold()
        return shared

    def hold(self) -> None:
        """Take the study for this driver, or make sure that it still has it.

        Raises:
            BadStorage: If another driver has it.
            StorageGone: If nobody answers.
        """
        with _told(self.address):
            try:
                if self._lock is not None:
                    self._lock.execute(sqlalchemy.text("SELECT 1"))
                    return
            except DBAPIError:
                self._lock = None
            lock = self._locks.connect().execution_options(isolation_level="AUTOCOMMIT")
            taken = lock.execute(
                sqlalchemy.text("SELECT pg_try_advisory_lock(hashtext('trtune'), hashtext(:study))"),
                {"study": self.study},
            ).scalar()
            if not taken:
                holder = _holder(lock, self.study)
                lock.close()
                raise BadStorage(
                    f"the study {self.study!r} in {self.address} is driven by another trtune{holder}:"
                    " stop that one, or name another study"
                )
            self._lock = lock
            self.optuna.forget()  # somebody else may have held it meanwhile

    def beat(self, trial_ids: tuple[int, ...]) -> None:
        """Give a sign of life for trials under way.

        Raises:
            BadStorage: If another driver has taken the study meanwhile.
            StorageGone: If nobody answers.
        """
        self.hold()
        if not trial_ids:
            return
        with _told(self.address), self._database.engine.begin() as connection:
            connection.execute(_BEAT, {"trials": sorted(trial_ids)})

    def close(self) -> None:
        """Let others have the study; a database that is gone has let go of it by itself."""
        held = () if self._lock is None else (self._lock.close,)
        for let_go in (*held, self._locks.dispose, self._database.remove_session, self._database.engine.dispose):
            with suppress(SQLAlchemyError):
                let_go()


@asynccontextmanager
async def signs_of_life(
    storage: SharedStorage | None,
    rows: Callable[[], tuple[int, ...]],
    on_taken: Callable[[], None],
    period_s: float = HEARTBEAT_S / 2,
) -> AsyncIterator[None]:
    """While it lasts, trials under way are kept alive in the database; an outage is left to whoever needs it next.

    Args:
        storage: The database; None: the session file, which needs no signs.
        rows: Identities of the trials under way.
        on_taken: Called when no more signs can be given: what is under way must end in good order.
        period_s: Seconds between two signs.

    Raises:
        BadStorage: At the end, if another driver has taken the study meanwhile.
    """
    if storage is None:
        yield
        return
    over = asyncio.Event()
    beating = asyncio.create_task(_beat(storage, rows, period_s, over))
    beating.add_done_callback(lambda _: None if over.is_set() else on_taken())
    try:
        yield
    finally:
        over.set()  # and not cancelled: its thread would go on with the connection that is closed next
        await asyncio.wait({beating})
        error = None if beating.cancelled() else beating.exception()
    if error is not None:
        raise error


async def _beat(
    storage: SharedStorage, rows: Callable[[], tuple[int, ...]], period_s: float, over: asyncio.Event
) -> None:
    while not over.is_set():
        try:
            await asyncio.to_thread(storage.beat, rows())
        except (StorageInternalError, SQLAlchemyError, StorageGone) as error:
            if not is_outage(error):
                raise
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), period_s)


async def patiently(
    work: Callable[[], T],
    on_outage: Callable[[str], None],
    *,
    ended: asyncio.Event | None = None,
    patience_s: float = PATIENCE_S,
    retry_s: float = RETRY_S,
) -> T:
    """Do what needs the storage; while the database is gone, wait for it and try again.

    What is done must bear being done twice: a lost connection does not tell whether the last commit went through.

    Args:
        work: What to do.
        on_outage: Told once in words when an outage begins.
        ended: Set when there is nothing to wait for any more.
        patience_s: How long to wait.
        retry_s: Seconds between two tries.

    Raises:
        StorageGone: If it did not come back in time, or before the end.
    """
    deadline = time.monotonic() + patience_s
    told = False
    while True:
        try:
            return work()
        except (StorageInternalError, SQLAlchemyError, StorageGone) as error:
            if not is_outage(error):
                raise
            if time.monotonic() > deadline or (ended is not None and ended.is_set()):
                raise StorageGone(f"the database of the study did not come back within {patience_s:g} s") from None
        if not told:
            on_outage(
                "the database of the study does not answer: what runs goes on, nothing new begins until it is back"
            )
        told = True
        await asyncio.sleep(retry_s)


def is_outage(error: BaseException) -> bool:
    """Whether an error of the storage means that the database is gone, and not that it refused something."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    if isinstance(cause, DBAPIError):
        return cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError)
    return isinstance(cause, StorageGone)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What the database refuses, in one line without the address's secrets.

    Raises:
        BadStorage: If waiting does not help.
        StorageGone: If it may come back.
    """
    try:
        yield
    except ImportError:
        raise BadStorage("studies in PostgreSQL need psycopg: pip install 'trtune[cluster]'") from None
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        told = " ".join(str(getattr(cause, "orig", cause)).split())
        for pattern, text in _REFUSALS:
            if pattern in told:
                raise BadStorage(f"{where}: {text}") from None
        if is_outage(error):
            raise StorageGone(f"{where} does not answer: start the database, or check host and port") from None
        raise BadStorage(f"{where}: the database refused: {type(cause).__name__}") from None
    except RuntimeError as error:  # Optuna's word for tables of another version
        raise BadStorage(f"{where}: its tables are of another version of Optuna: {error}") from None


_REFUSALS: Final = (
    (
        "password authentication failed",
        "user or password is wrong; the password may also come from PGPASSWORD or ~/.pgpass",
    ),
    ("no password supplied", "a password is needed: in the address, in PGPASSWORD or in ~/.pgpass"),
    ("pg_hba.conf", "the server lets this user in neither from this host nor to this database (pg_hba.conf)"),
    ("does not exist", "the database or the user does not exist; create it first (createdb)"),
    ("permission denied", "this user may not make tables there; grant it CREATE on the schema"),
)
"""What PostgreSQL says, and what to do. Its own words are not passed on: they may repeat the address."""


def _require_optuna_or_empty(engine: Engine, where: str) -> None:
    """Refuse a schema whose tables are somebody else's.

    Raises:
        BadStorage: If there is a table `studies` or `trials` that is not Optuna's.
    """
    inspector = sqlalchemy.inspect(engine)
    tables = set(inspector.get_table_names())
    strangers = {"studies", "trials"} & tables
    if strangers and not {"version_info", "alembic_version"} <= tables:
        raise BadStorage(
            f"{where} holds a table {min(strangers)!r} that is not Optuna's: give the study a database of its own"
        )


def _holder(lock: Connection, study: str) -> str:
    """Who holds a study, in words; empty when the server does not tell."""
    row = lock.execute(
        sqlalchemy.text(
            "SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted"
            " AND l.classid::bigint = (hashtext('trtune')::bigint & 4294967295)"
            " AND l.objid::bigint = (hashtext(:study)::bigint & 4294967295)"
        ),
        {"study": study},
    ).first()
    if row is None:
        return ""
    return f" ({row[0]}, connected since {row[1]:%Y-%m-%d %H:%M:%S})"
