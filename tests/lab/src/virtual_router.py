"""A stand-in of CloudStack's virtual router, as far as cloud-init's data source asks it. Not the router's own code.

router.py ADDRESS FILE: the file is JSON, of each VM by its address: user-data, meta-data by name, password.
Port 80 has /latest/user-data, /latest/meta-data/ (the names) and /latest/meta-data/NAME. Port 8080 is the password
server, which tells nothing from its path and all from the header DomU_Request: a password is given until the VM says that
it has it.
"""

import http.server
import json
import sys
import threading

address, file = sys.argv[1:]
with open(file) as text:
    vms = json.load(text)


class Answering(http.server.BaseHTTPRequestHandler):
    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def vm(self):
        return vms.get(self.client_address[0])


class MetaData(Answering):
    def do_GET(self):
        vm = self.vm()
        parts = self.path.strip("/").split("/")
        if vm is None or parts[0] != "latest":
            self.answer("no such VM\n", 404)
        elif parts[1:] == ["user-data"]:
            self.answer(vm["user-data"])
        elif parts[1:] == ["meta-data"]:
            self.answer("\n".join(vm["meta-data"]) + "\n")
        elif len(parts) == 3 and parts[1] == "meta-data" and parts[2] in vm["meta-data"]:
            self.answer(vm["meta-data"][parts[2]])
        else:
            self.answer("no such file\n", 404)


class Passwords(Answering):
    def do_GET(self):
        vm, request = self.vm(), self.headers.get("DomU_Request")
        if vm is None or request not in ("send_my_password", "saved_password"):
            self.answer("bad_request")
        elif request == "send_my_password":
            self.answer(vm["password"] or "saved_password")
        else:
            vm["password"] = ""
            self.answer("saved_password")


def serve(port, handler):
    http.server.ThreadingHTTPServer((address, port), handler).serve_forever()


threading.Thread(target=serve, args=(8080, Passwords), daemon=True).start()
serve(80, MetaData)
