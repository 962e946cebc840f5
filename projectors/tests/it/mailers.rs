//! The three mailers: one contract all of them pass, then what each may meet. SMTP is spoken with a real server
//! (`tests/mails.py`), SES's API is played on loopback, and every mail is read by Python's parser.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::locale::Locale;
use event_log::{Clock as _, SystemClock};
use hmac::{Hmac, KeyInit as _, Mac as _};
use projectors::mail::ses::{SesMailer, SesSettings};
use projectors::mail::smtp::{SmtpMailer, SmtpServer};
use projectors::mail::templates::{Letter, Recipient, Rendered};
use projectors::mail::{FolderMailer, MailError, Mailer, Sender};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const FROM: &str = "Pontual <no-reply@pontual.example.com>";

fn sender() -> Sender {
    FROM.parse().unwrap()
}

fn recipient(name: &str, email: &str) -> Recipient {
    Recipient { name: name.parse().unwrap(), email: email.parse().unwrap(), locale: Locale::PtBr }
}

fn letter(to: &Recipient) -> Rendered {
    Letter::ResetPassword.render(to, "https://pontual.example.com/reset-password#token=abc.def")
}

fn python(arguments: &[&str]) -> Command {
    let python = std::env::var("TEST_PYTHON");
    let python = python.unwrap_or_else(|_| panic!("TEST_PYTHON is not set: run scripts/test.sh"));
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mails.py")).args(arguments);
    command
}

/// A mail as Python's parser understands it.
fn read(mail: &[u8]) -> Value {
    let mut reader = python(&["read"]);
    let mut reader =
        reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
    reader.stdin.take().unwrap().write_all(mail).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(mail));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A mail that arrived: its envelope's recipients, where the adapter has an envelope, and its bytes.
#[derive(Clone)]
struct Arrived {
    to: Option<Vec<String>>,
    bytes: Vec<u8>,
}

/// The mails of a folder that came so far.
fn eml_files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "eml")).collect()
}

/// A real SMTP server. It ends with its standard input, and that with the test.
struct SmtpProcess {
    _process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl SmtpProcess {
    fn start(credentials: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = python(&["serve", folder.path().to_str().unwrap()]);
        let command = command.args(credentials).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("Python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the SMTP server prints its port");
        Self { _process: process, port, folder }
    }

    fn mailer(&self, user: &str) -> SmtpMailer {
        smtp(&format!("smtp://{user}127.0.0.1:{}", self.port))
    }

    fn arrived(&self) -> Vec<Arrived> {
        let arrived = eml_files(self.folder.path()).into_iter().map(|path| {
            let envelope = std::fs::read(path.with_extension("json")).unwrap();
            let envelope: Value = serde_json::from_slice(&envelope).unwrap();
            assert_eq!(envelope["from"], "no-reply@pontual.example.com");
            let to = serde_json::from_value(envelope["to"].clone()).unwrap();
            Arrived { to: Some(to), bytes: std::fs::read(path).unwrap() }
        });
        arrived.collect()
    }
}

fn smtp(url: &str) -> SmtpMailer {
    SmtpMailer::new(url.parse::<SmtpServer>().unwrap(), sender())
}

/// SES as documented, on loopback.
#[derive(Clone)]
struct Ses {
    port: u16,
    requests: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
}

impl Ses {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ses = Self { port: listener.local_addr().unwrap().port(), requests: Arc::default() };
        let router = Router::new().fallback(Self::answer).with_state(ses.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        ses
    }

    /// As the local part of the recipient wishes.
    async fn answer(
        State(ses): State<Self>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> axum::response::Response {
        let json: Value = serde_json::from_str(&body).unwrap();
        let to = json["Destination"]["ToAddresses"][0].as_str().unwrap().to_owned();
        ses.requests.lock().unwrap().push(Asked { method, uri, headers, body });
        let refused = |status: u16, name: &'static str| {
            let body = format!(r#"{{"message":"Not to {to}"}}"#);
            let headers = [("x-amzn-errortype", name), ("content-type", "application/json")];
            (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
        };
        match to.split('@').next().unwrap() {
            "gone" => refused(400, "MessageRejected"),
            "later" => refused(429, "TooManyRequestsException"),
            "broken" => refused(500, "InternalServiceErrorException"),
            "paused" => refused(400, "SendingPausedException"),
            "hang" => std::future::pending().await,
            _ => axum::Json(serde_json::json!({ "MessageId": "0100018c-000000" })).into_response(),
        }
    }

    fn settings(&self) -> SesSettings {
        SesSettings {
            region: "sa-east-1".to_owned(),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SECRET.to_owned().into(),
            session_token: Some("a lent token".to_owned().into()),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
        }
    }

    fn mailer(&self) -> SesMailer {
        SesMailer::new(self.settings(), sender(), Arc::new(SystemClock)).unwrap()
    }

    fn arrived(&self) -> Vec<Arrived> {
        let requests = self.requests.lock().unwrap();
        let arrived = requests.iter().map(|asked| {
            let body: Value = serde_json::from_str(&asked.body).unwrap();
            let bytes = STANDARD.decode(body["Content"]["Raw"]["Data"].as_str().unwrap()).unwrap();
            let to = serde_json::from_value(body["Destination"]["ToAddresses"].clone()).unwrap();
            Arrived { to: Some(to), bytes }
        });
        arrived.collect()
    }
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// What every mailer holds to.
async fn keeps_the_contract(mailer: &dyn Mailer, arrived: impl Fn() -> Vec<Arrived>) {
    a_mail_arrives_once_as_it_was_written(mailer, &arrived).await;
    nothing_writes_headers(mailer, &arrived).await;
}

async fn a_mail_arrives_once_as_it_was_written(
    mailer: &dyn Mailer,
    arrived: &impl Fn() -> Vec<Arrived>,
) {
    let name = "Zoë Łukasz Ñandú ✂️ 山田太郎 de Albuquerque Cavalcanti e Gusmão, a Segunda";
    let to = recipient(name, "zoe+pontual@example.com");
    let mut mail = letter(&to);
    mail.subject =
        "Sua sessão de «terça» às 14 h mudou: 予約 ⏰ e mais um tanto de texto".to_owned();
    let id = Uuid::now_v7();
    mailer.send(id, &to, &mail).await.unwrap();
    let all = arrived();
    assert_eq!(all.len(), 1, "it arrives once");
    assert!(all[0].to.iter().all(|to| to == &["zoe+pontual@example.com"]));
    assert!(all[0].bytes.split(|b| *b == b'\n').all(|line| line.len() <= 998), "RFC 5322, 2.1.1");
    let read = read(&all[0].bytes);
    assert_eq!(read["message_id"], format!("<{id}@pontual.example.com>"));
    assert_eq!(read["reference"], id.to_string());
    assert_eq!(read["subject"], mail.subject.as_str());
    assert_eq!(read["from"], FROM);
    assert_eq!(read["to"], serde_json::json!([[name, "zoe+pontual@example.com"]]));
    let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
    assert_eq!(lines(read["text"].as_str().unwrap()), lines(&mail.text));
    assert_eq!(lines(read["html"].as_str().unwrap()), lines(&mail.html));
    // Sent again, as after a crash, it is known as the same.
    mailer.send(id, &to, &mail).await.unwrap();
    for again in arrived() {
        assert_eq!(self::read(&again.bytes)["message_id"], read["message_id"]);
    }
}

async fn nothing_writes_headers(mailer: &dyn Mailer, arrived: &impl Fn() -> Vec<Arrived>) {
    let names = [
        "Ana, \"Bcc: eva@example.com\" <eva@example.com>".to_owned(),
        "Ana\\\" <eva@example.com>, \\".to_owned(),
        "=?utf-8?q?Ana=0D=0ABcc:_eva=40example.com?=".to_owned(),
        "=?utf-8?b?QW5hDQpCY2M6IGV2YUBleGFtcGxlLmNvbQ==?= =?utf-8?q?x?=".to_owned(),
        "Ana\u{2028}Bcc: eva@example.com\u{2029}".to_owned(),
        "(Ana); group: eva@example.com;".to_owned(),
        "é".repeat(255),
        "a".repeat(255),
    ];
    let subjects = [
        "Hello\r\nBcc: eva@example.com",
        "Hello\nBcc: eva@example.com\n\nAnother body",
        "Hello\rBcc: eva@example.com\0",
        "=?utf-8?q?=0D=0ABcc:_eva=40example.com?=",
    ];
    let addresses = ["ana@example.com", "a!#$%&'*+-/=?^_`{|}~b@example.com", "ana@xn--caf-dma.com"];
    let letters = names.iter().zip(subjects.iter().cycle()).zip(addresses.iter().cycle());
    for ((name, subject), address) in letters {
        let seen: HashSet<Vec<u8>> = arrived().into_iter().map(|mail| mail.bytes).collect();
        let to = recipient(name, address);
        let mail = Rendered { subject: (*subject).to_owned(), ..letter(&to) };
        mailer.send(Uuid::now_v7(), &to, &mail).await.unwrap();
        let new: Vec<_> =
            arrived().into_iter().filter(|mail| !seen.contains(&mail.bytes)).collect();
        let [new] = new.as_slice() else { panic!("{name}: {} mails", new.len()) };
        assert!(new.to.iter().all(|to| to == &[*address]), "{name}");
        let read = read(&new.bytes);
        let expected = [
            "Auto-Submitted",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
            "X-Entity-Ref-ID",
        ];
        assert_eq!(read["headers"], serde_json::json!(expected), "{name}");
        assert_eq!(read["to"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(read["to"][0][1], *address, "{name}");
        assert_eq!(read["parts"], 3, "{name}");
        let shown = [read["to"][0][0].as_str().unwrap(), read["subject"].as_str().unwrap()];
        assert!(shown.iter().all(|text| !text.chars().any(char::is_control)), "{shown:?}");
    }
    // Of addresses, what could write a header is none.
    for address in [
        "ana@example.com\r\nBcc: eva@example.com",
        "ana@example.com,eva@example.com",
        "ana@example.com> <eva@example.com",
        "\"ana\r\n\"@example.com",
        "ana@example.com\0",
    ] {
        assert!(address.parse::<domain::text::EmailAddress>().is_err(), "{address:?}");
    }
}

/// Whether trying again could help, by what came of a mail to this address.
async fn comes_to_nothing(mailer: &dyn Mailer, address: &str) -> MailError {
    let to = recipient("Ana", address);
    let sent = mailer.send(Uuid::now_v7(), &to, &letter(&to)).await;
    let error = sent.expect_err("it was not sent");
    let text = error.to_string();
    let said = address.split('@').next().unwrap();
    assert!(!text.contains(said) && !text.contains("example.com"), "nobody is named: {text}");
    error
}

#[tokio::test]
async fn the_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let mailer = FolderMailer::new(folder.path().join("mail")).from(sender());
    let arrived = || {
        let files = eml_files(&folder.path().join("mail")).into_iter();
        files.map(|path| Arrived { to: None, bytes: std::fs::read(path).unwrap() }).collect()
    };
    keeps_the_contract(&mailer, arrived).await;
}

#[tokio::test]
async fn smtp_keeps_the_contract() {
    let server = SmtpProcess::start(None);
    keeps_the_contract(&server.mailer(""), || server.arrived()).await;
}

#[tokio::test]
async fn ses_keeps_the_contract() {
    let ses = Ses::start().await;
    keeps_the_contract(&ses.mailer(), || ses.arrived()).await;
}

#[tokio::test]
async fn an_smtp_server_refuses_for_good_or_for_now() {
    let server = SmtpProcess::start(None);
    let mailer = server.mailer("");
    for (address, code) in [("gone@example.com", "550"), ("spam@example.com", "554")] {
        let error = comes_to_nothing(&mailer, address).await;
        assert!(error.is_permanent() && error.to_string().contains(code), "{error}");
    }
    let error = comes_to_nothing(&mailer, "later@example.com").await;
    assert!(!error.is_permanent() && error.to_string().contains("451"), "{error}");
    assert!(server.arrived().is_empty());
}

#[tokio::test]
async fn an_smtp_server_that_is_away_or_mute_or_stops_answering_is_tried_again_in_time() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = away.local_addr().unwrap();
    drop(away);
    let error = comes_to_nothing(&smtp(&format!("smtp://{address}")), "ana@example.com").await;
    assert!(!error.is_permanent() && error.to_string().contains("refused"), "{error}");

    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = smtp(&format!("smtp://{}", mute.local_addr().unwrap()));
    let server = SmtpProcess::start(None);
    for (mailer, address) in [(mute, "ana@example.com"), (server.mailer(""), "hang@example.com")] {
        let begun = Instant::now();
        let mailer = mailer.with_patience(Duration::from_millis(700));
        let error = comes_to_nothing(&mailer, address).await;
        assert!(matches!(error, MailError::TimedOut(_)) && !error.is_permanent(), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn smtp_signs_in_and_a_wrong_password_is_an_operators_to_mend() {
    let server = SmtpProcess::start(Some("ana@relay:p/w: é"));
    let right = server.mailer("ana%40relay:p%2Fw%3A%20%C3%A9@");
    right.check().await.unwrap();
    let to = recipient("Ana", "ana@example.com");
    right.send(Uuid::now_v7(), &to, &letter(&to)).await.unwrap();
    assert_eq!(server.arrived().len(), 1);
    for wrong in ["ana%40relay:hunter2@", ""] {
        let error = comes_to_nothing(&server.mailer(wrong), "bia@example.com").await;
        assert!(!error.is_permanent() && !error.to_string().contains("hunter2"), "{error}");
    }
    assert!(server.mailer("ana:hunter2@").check().await.is_err());
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn without_the_tls_that_was_asked_for_nothing_is_said_by_smtp() {
    let server = SmtpProcess::start(None);
    for url in ["smtp://127.0.0.1:{}?tls=required", "smtps://127.0.0.1:{}"] {
        let mailer = smtp(&url.replace("{}", &server.port.to_string()));
        let mailer = mailer.with_patience(Duration::from_secs(5));
        assert!(!comes_to_nothing(&mailer, "ana@example.com").await.is_permanent());
    }
    let opportunistic = smtp(&format!("smtp://127.0.0.1:{}?tls=opportunistic", server.port));
    let to = recipient("Ana", "ana@example.com");
    opportunistic.send(Uuid::now_v7(), &to, &letter(&to)).await.unwrap();
    assert_eq!(server.arrived().len(), 1);
}

#[tokio::test]
async fn addresses_of_other_scripts_arrive_by_smtp_and_are_refused_by_ses_for_good() {
    let server = SmtpProcess::start(None);
    let to = recipient("João", "joão@café.com");
    server.mailer("").send(Uuid::now_v7(), &to, &letter(&to)).await.unwrap();
    let arrived = server.arrived();
    assert_eq!(arrived[0].to.as_deref(), Some(&["joão@xn--caf-dma.com".to_owned()][..]));
    assert_eq!(read(&arrived[0].bytes)["to"][0][1], "joão@xn--caf-dma.com");

    let ses = Ses::start().await;
    let to = recipient("João", "joao@café.com");
    ses.mailer().send(Uuid::now_v7(), &to, &letter(&to)).await.unwrap();
    assert_eq!(ses.arrived()[0].to.as_deref(), Some(&["joao@xn--caf-dma.com".to_owned()][..]));
    let error = comes_to_nothing(&ses.mailer(), "joão@café.com").await;
    assert!(error.is_permanent(), "{error}");
    assert_eq!(ses.arrived().len(), 1, "it was not even asked");
}

#[tokio::test]
async fn ses_is_asked_as_documented_with_a_signature_that_holds() {
    let ses = Ses::start().await;
    let to = recipient("Ana", "ana@example.com");
    let id = Uuid::now_v7();
    ses.mailer().send(id, &to, &letter(&to)).await.unwrap();
    let asked = ses.requests.lock().unwrap().pop().unwrap();
    assert_eq!((asked.method.as_str(), asked.uri.path()), ("POST", "/v2/email/outbound-emails"));
    assert_eq!(asked.uri.query(), None);
    let header = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("host"), format!("127.0.0.1:{}", ses.port));
    assert_eq!(header("content-length"), asked.body.len().to_string());
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    let mut expected = serde_json::json!({
        "FromEmailAddress": "no-reply@pontual.example.com",
        "Destination": { "ToAddresses": ["ana@example.com"] },
        "Content": { "Raw": {} },
        "EmailTags": [{ "Name": "mail", "Value": id.to_string() }],
    });
    expected["Content"]["Raw"]["Data"] = body["Content"]["Raw"]["Data"].clone();
    assert_eq!(body, expected);

    // The signature by Amazon's description of it, from what arrived.
    let authorization = header("authorization");
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let part = |name: &str| {
        let parts = rest.split(", ");
        parts.filter_map(|part| part.split_once('=')).find(|(n, _)| *n == name).unwrap().1
    };
    let date = header("x-amz-date");
    let age = SystemClock.now()
        - chrono::NaiveDateTime::parse_from_str(&date, "%Y%m%dT%H%M%SZ").unwrap().and_utc();
    assert!(age.num_seconds().abs() < 60, "{date}");
    let scope = format!("{}/sa-east-1/ses/aws4_request", &date[..8]);
    assert_eq!(part("Credential"), format!("AKIDEXAMPLE/{scope}"));
    let signed = part("SignedHeaders");
    for name in ["content-type", "host", "x-amz-date", "x-amz-security-token"] {
        assert!(signed.split(';').any(|signed| signed == name), "{signed}");
    }
    assert_eq!(header("x-amz-security-token"), "a lent token");
    let canonical: String =
        signed.split(';').map(|name| format!("{name}:{}\n", header(name).trim())).collect();
    let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    let request =
        format!("POST\n/v2/email/outbound-emails\n\n{canonical}\n{signed}\n{}", hash(&asked.body));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(&request));
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let key =
        scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| mac(&key, part));
    assert_eq!(part("Signature"), hex::encode(mac(&key, &to_sign)));
}

#[tokio::test]
async fn ses_refuses_for_good_or_for_now() {
    let ses = Ses::start().await;
    let error = comes_to_nothing(&ses.mailer(), "gone@example.com").await;
    assert!(error.is_permanent() && error.to_string().contains("400 MessageRejected"), "{error}");
    for (address, said) in [
        ("later@example.com", "429 TooManyRequestsException"),
        ("broken@example.com", "500 InternalServiceErrorException"),
        ("paused@example.com", "400 SendingPausedException"),
    ] {
        let error = comes_to_nothing(&ses.mailer(), address).await;
        assert!(!error.is_permanent() && error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn ses_that_is_away_or_mute_or_not_what_it_says_is_tried_again_in_time() {
    let ses = Ses::start().await;
    let mailer = ses.mailer().with_patience(Duration::from_millis(500));
    let error = comes_to_nothing(&mailer, "hang@example.com").await;
    assert!(matches!(error, MailError::TimedOut(_)), "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    // Nobody there; and somebody without a certificate.
    for endpoint in [format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{}", ses.port)]
    {
        let settings = SesSettings { endpoint: Some(endpoint), ..ses.settings() };
        let mailer = SesMailer::new(settings, sender(), Arc::new(SystemClock)).unwrap();
        let mailer = mailer.with_patience(Duration::from_secs(5));
        let error = comes_to_nothing(&mailer, "ana@example.com").await;
        assert!(!error.is_permanent(), "{error}");
    }
}
