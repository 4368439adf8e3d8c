"""The demo page of the browser's build, served on this machine: compress a photo in the page, beside JPEG or AVIF.

    python examples/web_demo.py OUT                     serves http://127.0.0.1:8000/demo/ until Ctrl-C
    python examples/web_demo.py OUT --picture web.webp  takes a picture of the page at work, and ends

OUT is the folder of csrc/wasm/build.sh; where nothing is built in it, that script is run first (Emscripten, ninja,
node). Browsers load modules of the right types only, which Python's own server does not send for .mjs everywhere.
"""

import argparse
import functools
import http.server
import subprocess
import tempfile
import threading
from pathlib import Path

TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=Path)
parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
parser.add_argument("--picture", type=Path, help="needs chromium and playwright")
options = parser.parse_args()

if not (options.out / "flic.wasm").exists():
    build = Path(__file__).resolve().parents[1] / "csrc" / "wasm" / "build.sh"
    subprocess.run([build, options.out], check=True)

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=options.out)
http.server.SimpleHTTPRequestHandler.extensions_map.update(TYPES)
server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler)
address = f"http://127.0.0.1:{server.server_address[1]}/demo/"
print(address, flush=True)
if options.picture is None:
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
else:
    from PIL import Image

    from fastlic.bench.chromium import Chromium

    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Chromium() as browser:
        browser.resize(800, 900)
        browser.open(address)
        browser.evaluate(
            "document.getElementById('sample').click();"
            "while (!document.querySelector('#rows tr:nth-child(2)'))"
            "  await new Promise((done) => setTimeout(done, 200));"
        )
        with tempfile.TemporaryDirectory() as folder:
            browser.screenshot(Path(folder) / "page.png")
            Image.open(Path(folder) / "page.png").convert("RGB").save(options.picture, quality=85)
    server.shutdown()
