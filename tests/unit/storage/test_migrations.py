"""A home of any version becomes one of this version, with its rows; a migration that fails leaves what it found."""

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from finery.core.errors import Conflict
from finery.storage import database as module
from finery.storage.database import Database, schema_of
from finery.storage.schema import metadata


def versions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(module._MIGRATIONS))
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


def bring_to(database: Database, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(module._MIGRATIONS))
    with database.engine.connect() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, version)
        connection.commit()


def add_a_project_with_a_key(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO projects (id, name, created_at) VALUES ('p', 'default', 1)")
        connection.exec_driver_sql(
            "INSERT INTO keys (id, project_id, name, hint, digest, created_at) VALUES ('k', 'p', 'admin', 'h', 'd', 1)"
        )


@pytest.mark.parametrize("version", versions()[:5])
def test_a_home_of_any_version_keeps_its_rows(database_url: str, version: str) -> None:
    database = Database(database_url)
    bring_to(database, version)
    add_a_project_with_a_key(database)
    database.migrate()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == versions()[-1]
        assert connection.exec_driver_sql("SELECT project_id FROM keys WHERE id = 'k'").scalar_one() == "p"
        if database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    database.close()


def test_a_migration_that_fails_leaves_the_schema_it_found(database_url: str) -> None:
    database = Database(database_url)
    bring_to(database, "0005")
    add_a_project_with_a_key(database)
    with database.write() as connection:
        # In the way of a table that a later migration makes.
        connection.exec_driver_sql("CREATE TABLE role_assignments (id INTEGER)")
    before = sa.inspect(database.engine).get_table_names()
    with pytest.raises(sa.exc.DBAPIError):
        database.migrate()
    assert sa.inspect(database.engine).get_table_names() == before
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE role_assignments")
    database.migrate()
    database.close()


def test_a_schema_of_a_newer_finery_is_refused_and_left_alone(migrated_url: str) -> None:
    database = Database(migrated_url)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match="schema 9999, of a newer Finery; this one knows up to"):
        database.migrate()
    with database.read() as connection:
        assert schema_of(connection) == "9999"
    database.close()


def test_the_tables_are_those_that_the_code_means(migrated_url: str) -> None:
    """What the migrations make is what `schema` says, on both engines."""
    database = Database(migrated_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_migrations_are_known_by_their_names() -> None:
    """A start looks at names alone, without alembic."""
    assert sorted(module.known_schemas()) == versions()
