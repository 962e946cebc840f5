"""A real SMTP server for the tests, and a reader of mails that is not ours.

    mails.py serve FOLDER [USER:PASSWORD]   prints its port, then writes each mail it takes to FOLDER as <n>.eml, beside
                                            its envelope <n>.json; ends when its standard input does
    mails.py read                           a mail from standard input, as JSON

The local part of a recipient says what becomes of it: `gone` is refused for good, `later` for now, `spam` when the
message is there, `hang` never answered.
"""

import asyncio
import email
import email.header
import email.policy
import email.utils
import json
import os
import sys


class Handler:
    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local == "gone":
            return f"550 5.1.1 <{address}> does not live here"
        if local == "later":
            return f"451 4.3.0 <{address}> cannot be written to just now"
        if local == "hang":
            await asyncio.sleep(3600)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if envelope.rcpt_tos[0].startswith("spam@"):
            return "554 5.7.1 no, thank you"
        self.count += 1
        path = os.path.join(self.folder, str(self.count))
        described = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "user": str(session.auth_data or "")}
        with open(path + ".json", "w", encoding="utf-8") as file:
            json.dump(described, file)
        with open(path + ".partial", "wb") as file:
            file.write(envelope.content)
        os.rename(path + ".partial", path + ".eml")
        return "250 OK"


async def serve(folder, credentials):
    from aiosmtpd.smtp import SMTP, AuthResult

    def authenticate(server, session, envelope, mechanism, data):
        given = f"{data.login.decode()}:{data.password.decode()}"
        # "Not handled" is: the server is to say so itself.
        return AuthResult(success=given == credentials, handled=False, auth_data=data.login.decode())

    handler = Handler(folder)

    def protocol():
        return SMTP(
            handler,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname="smtp.test",
            authenticator=authenticate if credentials else None,
            auth_required=bool(credentials),
            auth_require_tls=False,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


def read():
    # As text: an address outside ASCII is written as it is (RFC 6532).
    raw = sys.stdin.buffer.read().decode()
    mail = email.message_from_string(raw, policy=email.policy.default)
    to = mail["To"].addresses
    # The policy's own parser of names leaves the space between two encoded words (bpo-35547); this one does not.
    written = email.message_from_string(raw, policy=email.policy.compat32)["To"]
    names = [str(email.header.make_header(email.header.decode_header(name)))
             for name, _ in email.utils.getaddresses([str(written)])]
    print(json.dumps({
        "headers": sorted(name for name, _ in mail.items()),
        "message_id": mail["Message-ID"],
        "reference": mail["X-Entity-Ref-ID"],
        "subject": mail["Subject"],
        "from": str(mail["From"]),
        "to": [[name, address.addr_spec] for name, address in zip(names, to, strict=True)],
        "text": mail.get_body(("plain",)).get_content(),
        "html": mail.get_body(("html",)).get_content(),
        "parts": len(list(mail.walk())),
    }))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
    else:
        read()
