"""The API on a loopback port of its own, in a thread with its own loop; accounts of every role; what it is asked with."""

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field

import httpx
import structlog

from hcp_pipelines.api import service
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.operators import api_keys, users
from hcp_pipelines.operators.users import UserRole
from hcp_pipelines.runtime.process import ProcessContext, read_clock
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

PASSWORD = "correct horse battery"


@dataclass
class RunningApi:
    settings: object
    base_url: str
    people: dict = field(default_factory=dict)

    def client(self, role=None, key=None):
        """Asks as an account of a role, or with a key; or as nobody."""
        given = key or (self.people[role].key if role else None)
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=60)

    def log_in(self, name, password=PASSWORD):
        with self.client() as nobody:
            return nobody.post("/api/v1/auth/login", json={"name": name, "password": password})


@dataclass
class Person:
    name: str
    user_id: object
    key: str
    customer_id: object = None


def with_people(settings):
    """An account of each role, and of two customers; `customer` and `other`."""
    people = {}
    pepper = api_keys.pepper(settings)
    with connect(settings, Role.API) as connection:
        for name, role in (*((r.value, r) for r in UserRole), ("other", UserRole.CUSTOMER)):
            customer = None
            if role is UserRole.CUSTOMER:
                customer = users.add_customer(connection, name, f"{name}@example.com", "pro", "test")
            user_id = users.add_user(connection, name, role, PASSWORD, "test", customer)
            key, _ = api_keys.add_key(connection, pepper, user_id, "test", None, "test")
            people[name] = Person(name, user_id, key, customer)
    return people


@contextlib.contextmanager
def running_api(settings, before="", **changes):
    """The API over a database, after a statement there; stopped, and its connections closed, at the end."""
    if before:
        with connect(settings, Role.ADMIN) as connection:
            connection.execute(before)
    own = settings.model_copy(update={"api_listen": "127.0.0.1:0", **changes})
    people = with_people(own)
    started, told, context = threading.Event(), {}, {}

    async def serve():
        one = Ready("api", own, read_clock(own), structlog.get_logger())
        one.told, one.started = told, started
        context["one"], context["loop"] = one, asyncio.get_running_loop()
        await service.run_api(one)

    def run():
        try:
            asyncio.run(serve())
        except BaseException as error:
            told["error"] = error
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20), "the API did not start"
        if "error" in told:
            raise told["error"]
        yield RunningApi(own, told["api"], people)
    finally:
        if "one" in context and thread.is_alive():
            context["loop"].call_soon_threadsafe(context["one"].stop.set)
        thread.join(20)
    if "error" in told:
        raise told["error"]


class Ready(ProcessContext):
    """A context that tells the test where the API listens, instead of writing a file."""

    def ready(self, **urls):
        self.told.update(urls)
        self.started.set()


def with_fleet(settings, facilities=2, devices=300):
    """The demo's facilities in the database."""
    with connect(settings, Role.ADMIN) as connection:
        for document in demo_facilities(facilities, devices):
            apply(connection, document, "test")
