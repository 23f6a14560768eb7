"""The notebook and the README's lines, as someone runs them who has only the wheel: ``python offline.py NOTEBOOK README``.

The network is off: in a namespace of its own (``unshare``), of which the loopback device is switched on here for the kernel,
or, with ``--block``, by sockets that refuse to connect elsewhere.
"""

import fcntl
import os
import re
import socket
import struct
import sys
from pathlib import Path

BLOCK = """
import socket
connect = socket.socket.connect
def refuse(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise OSError(101, "Network is unreachable")
    return connect(self, address)
socket.socket.connect = refuse
"""

notebook, readme, *block = map(Path, sys.argv[1:])
if block:
    Path("blocked").mkdir()
    Path("blocked/sitecustomize.py").write_text(BLOCK)
    os.environ["PYTHONPATH"] += f"{os.pathsep}{Path('blocked').absolute()}"
    exec(BLOCK)
else:
    with socket.socket() as device:  # SIOCSIFFLAGS with IFF_UP and IFF_RUNNING
        fcntl.ioctl(device, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    raise SystemExit("the network is on")
except OSError as error:
    if error.errno != 101:  # not: network is unreachable
        raise

import nbclient  # noqa: E402 - sockets are ready now
import nbformat  # noqa: E402

book = nbformat.read(notebook, as_version=4)
assert not any(cell.get("outputs") for cell in book.cells), "strip the outputs of the notebook"
nbclient.NotebookClient(book, timeout=240, kernel_name="python3").execute()
texts = [str(output) for cell in book.cells for output in cell.get("outputs", ())]
(accuracy,) = re.findall(r"(\d+\.\d) % of 500", "\n".join(texts))
assert float(accuracy) > 20, accuracy
assert any("image/png" in text for text in texts), "the images are shown"

import torch  # noqa: E402

import teddy  # noqa: E402

section = readme.read_text().partition("## Use the images")[2].partition("\n## ")[0]
code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
code = re.sub(r"outputs/[^\"]*/sets/", "run/sets/", code)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
before = network[1].weight.detach().clone()
exec(code)
assert not torch.equal(before, network[1].weight)
print(Path(teddy.__file__).parent, accuracy)
