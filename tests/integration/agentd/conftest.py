import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../lib"))
sys.path.insert(0, os.path.dirname(__file__))

import pytest

import images
import targets


def pytest_configure(config):
    config.addinivalue_line("markers", "host: runs the agent loop as a process of this machine")
    config.addinivalue_line("markers", "vm: boots a microVM")


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Disk images, each made once."""
    return images.Store(str(tmp_path_factory.mktemp("images")))


@pytest.fixture(
    scope="session",
    params=[pytest.param("host", marks=pytest.mark.host), pytest.param("vm", marks=pytest.mark.vm)],
)
def target(request):
    """An agent that serves: as a process of this machine, or in a VM shared by all tests."""
    if request.param == "host":
        with targets.HostAgent() as agent:
            yield agent
    else:
        with targets.SharedVm(request.getfixturevalue("store")) as agent:
            yield agent


@pytest.fixture
def agent(target):
    """The target's client, checked to answer before the test."""
    target.client.ping(timeout=30)
    return target.client
