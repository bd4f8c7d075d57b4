"""SQL engines that tests start themselves: DuckDB in the process, PostgreSQL and Spark beside it.

PostgreSQL is a server of its own, in a temporary folder, under a user that isn't root, reachable by
a socket in that folder and, where a port is named, on loopback.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import duckdb
import polars as pl


class Engine(Protocol):
    """Something that holds tables and answers a SELECT."""

    dialect: str

    def load(self, name: str, frame: pl.DataFrame) -> None:
        """Make a table of a frame."""

    def ask(self, text: str) -> pl.DataFrame:
        """Run a SELECT; decimals come as doubles or as text that is read as such."""


class DuckDB:
    """DuckDB in the process."""

    dialect = "duckdb"

    def __init__(self) -> None:
        self._connection = duckdb.connect()

    def load(self, name: str, frame: pl.DataFrame) -> None:
        self._connection.register("loading", frame)
        self._connection.execute(f'create or replace table "{name}" as from loading')
        self._connection.unregister("loading")

    def ask(self, text: str) -> pl.DataFrame:
        found: pl.DataFrame = self._connection.sql(text).pl()
        return found


_POSTGRES_TYPES = {
    pl.Float64: "double precision",
    pl.Int64: "bigint",
    pl.Boolean: "boolean",
    # In the order of a language, as servers usually have it, and not of bytes.
    pl.String: 'text collate "en-x-icu"',
    pl.Date: "date",
    pl.Datetime: "timestamp",
    pl.Decimal: "numeric",
}


#: Of the server's only user.
PASSWORD = "pa55/w@rd of the test"


class Postgres:
    """A PostgreSQL server, spoken to by its own client."""

    dialect = "postgres"

    def __init__(self, folder: Path, psql: Path, port: int | None = None) -> None:
        self._folder, self._psql = folder, psql
        #: How gtmar is to reach it, where it listens on loopback.
        self.address = f"postgresql://gtmar:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        self._port = ["-p", str(port)] if port else []

    def load(self, name: str, frame: pl.DataFrame) -> None:
        quoted = [column.replace('"', '""') for column in frame.columns]
        types = [
            "timestamptz"
            if getattr(dtype, "time_zone", None)
            else _POSTGRES_TYPES[dtype.base_type()]
            for dtype in frame.dtypes
        ]
        columns = ", ".join(f'"{n}" {t}' for n, t in zip(quoted, types, strict=True))
        file = self._folder / "load.csv"
        frame.write_csv(file, null_value="\\N", quote_style="non_numeric")
        file.chmod(0o644)
        self.run(
            f'drop table if exists "{name}"; create table "{name}" ({columns});\n'
            f"copy \"{name}\" from '{file}' (format csv, header, null '\\N');"
        )

    def ask(self, text: str) -> pl.DataFrame:
        return pl.read_csv(self._answer(text), infer_schema_length=None, try_parse_dates=False)

    def ask_texts(self, text: str) -> pl.DataFrame:
        """Run a SELECT; all values come as text."""
        return pl.read_csv(self._answer(text), infer_schema=False)

    def _answer(self, text: str) -> Path:
        file = self._folder / "answer.csv"
        file.write_text(self.run(f"copy ({text}\n) to stdout (format csv, header);"), "utf-8")
        return file

    def run(self, text: str) -> str:
        """Run statements; return what they print."""
        # Single-quoted names could be read as variables by the client: text comes in by a file.
        script = self._folder / "script.sql"
        script.write_text(text, "utf-8")
        command = [str(self._psql), "-h", str(self._folder), "-U", "gtmar", "-d", "postgres"]
        command += [*self._port, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout


@contextmanager
def postgres(*, port: int | None = None) -> Iterator[Postgres | None]:
    """Start a PostgreSQL server; None where it isn't installed.

    It asks for a password, and listens on a socket's file, or on a port of loopback as well.
    """
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    tools = next((p for p in places if (p / "initdb").is_file() and (p / "pg_ctl").is_file()), None)
    psql = shutil.which("psql")
    if tools is None or psql is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="gtmar-pg-", dir="/tmp"))
    # The server refuses to run as root; Debian's package brings a user for it.
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    folder.chmod(0o755)
    data = folder / "data"

    def tool(name: str, *arguments: str) -> None:
        subprocess.run(
            [str(tools / name), "-D", str(data), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **who,
        )

    try:
        (folder / "password").write_text(PASSWORD, "utf-8")
        (folder / "password").chmod(0o644)
        asked = ("-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
        tool("initdb", "-U", "gtmar", *asked, "-E", "UTF8", "--locale=C", "--no-sync")
        listening = "" if port is None else f"127.0.0.1 -c port={port}"
        settings = (
            f"-c listen_addresses={listening} -c unix_socket_directories={folder} -c fsync=off"
        )
        tool("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", settings)
        yield Postgres(folder, Path(psql), port)
    finally:
        with suppress(subprocess.CalledProcessError):
            tool("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


_SPARK_TYPES = {
    pl.Float64: "double",
    pl.Int64: "bigint",
    pl.Boolean: "boolean",
    pl.String: "string",
    pl.Date: "date",
}


def _spark_type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.Datetime):
        return "timestamp" if dtype.time_zone else "timestamp_ntz"
    return _SPARK_TYPES[dtype.base_type()]


class Spark:
    """Spark in local mode, asked in its own words or in those of Databricks."""

    def __init__(self, session: Any, folder: Path, dialect: str = "spark") -> None:
        self._session, self._folder, self.dialect = session, folder, dialect

    def speaking(self, dialect: str) -> "Spark":
        """Return the same Spark under another dialect's name."""
        return Spark(self._session, self._folder, dialect)

    def load(self, name: str, frame: pl.DataFrame) -> None:
        file = self._folder / f"{len(list(self._folder.iterdir()))}.parquet"
        frame.write_parquet(file)
        # To find out the types by itself Spark would run a job of its own.
        columns = ", ".join(
            f"`{column.replace('`', '``')}` {_spark_type(dtype)}"
            for column, dtype in frame.schema.items()
        )
        table = self._session.read.schema(columns).parquet(str(file))
        table.createOrReplaceTempView(f"`{name}`")

    def ask(self, text: str) -> pl.DataFrame:
        # Written to files, a statement would be planned twice.
        found = self._session.sql(text).toArrow()
        names = found.column_names
        frame = pl.DataFrame(found.rename_columns([f"c{i}" for i in range(len(names))]))
        return frame.rename(dict(zip(frame.columns, names, strict=True)))


@contextmanager
def spark() -> Iterator[Spark | None]:
    """Start Spark; None where pyspark or Java isn't installed."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        yield None
        return
    if shutil.which("java") is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="gtmar-spark-"))
    settings: dict[str, Any] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "1",
        # Put into one, the steps of a score are worked out once for each time that they are named.
        "spark.sql.optimizer.excludedRules": (
            "org.apache.spark.sql.catalyst.optimizer.CollapseProject"
        ),
        # Each statement runs once, over few rows: to compile for speed, or to plan again while it
        # runs, would take longer than it saves.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.constraintPropagation.enabled": "false",
        "spark.driver.extraJavaOptions": (
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
            " -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
        ),
    }
    builder = SparkSession.builder.master("local[1]").appName("gtmar")
    session = builder.config(map=settings).getOrCreate()
    tables = folder / "tables"
    tables.mkdir()
    try:
        yield Spark(session, tables)
    finally:
        session.stop()
        shutil.rmtree(folder, ignore_errors=True)
