"""For tests of code that uses bise: a daemon in this process, with real gRPC and a script for a model.

with FakeDaemon(answers=["Hello there"]) as daemon, Client(daemon.address) as client:
    assert client.chat("Hi").text == "Hello there"
    assert daemon.requests[0].messages[0].content == "Hi"
"""

from bise.testing.daemon import FakeDaemon
from bise.testing.script import Answer, Gate, Request

__all__ = ["Answer", "FakeDaemon", "Gate", "Request"]
