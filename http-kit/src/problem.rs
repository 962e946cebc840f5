//! Every failure the APIs can answer, as RFC 9457 problem documents, in the caller's language (K31).
//!
//! One catalogue ([`Kind`]) names them all: a stable type, a status, a title and a detail in Brazilian
//! Portuguese and English. One match turns a [`Refusal`] into a problem. For example, a booking that lost
//! the race for a slot is answered `409` with
//! `{"type":"/problems/slot-taken","title":"O horário está ocupado","status":409,…,"alternatives":[…]}`.
//!
//! A [`Problem`] can answer by itself; where [`crate::front`] stands before the router it is written again
//! in the caller's language, with the request's trace id. Internal causes are logged once, where the
//! problem is made, and never sent. A crash between the two loses a log line at most: problems change
//! nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::aggregate::Version;
use domain::command::ClaimKind;
use domain::locale::Locale;
use domain::series::RefusedOccurrence;
use domain::{Instant, Refusal};
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use crate::detail;
use crate::headers::etag;

/// The media type of every failure.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $slug:literal, $status:ident,
        $title_pt:literal / $title_en:literal, $detail_pt:literal / $detail_en:literal;)*) => {
        /// Every kind of problem there is. Its slug is part of the API: it never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The last segment of its type.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug,)* }
            }

            /// Its type: a relative URI.
            pub const fn type_uri(self) -> &'static str {
                match self { $(Self::$kind => concat!("/problems/", $slug),)* }
            }

            /// Its HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// Its title.
            pub const fn title(self, locale: Locale) -> &'static str {
                match self { $(Self::$kind => locale.pick($title_pt, $title_en),)* }
            }

            /// What is said where nothing more exact is known.
            pub const fn detail(self, locale: Locale) -> &'static str {
                match self { $(Self::$kind => locale.pick($detail_pt, $detail_en),)* }
            }
        }
    };
}

kinds! {
    /// The request could not be understood.
    BadRequest = "bad-request", BAD_REQUEST,
        "Requisição inválida" / "Bad request",
        "O servidor não entendeu a requisição." / "The server could not understand the request.";
    /// The body is not JSON.
    MalformedJson = "malformed-json", BAD_REQUEST,
        "JSON malformado" / "Malformed JSON",
        "O corpo da requisição não é um JSON válido." / "The request's body is not valid JSON.";
    /// A header is not of the form it needs.
    InvalidHeader = "invalid-header", BAD_REQUEST,
        "Cabeçalho inválido" / "Invalid header",
        "Um cabeçalho da requisição é inválido." / "A header of the request is not valid.";
    /// A segment of the path is not of the form it needs.
    InvalidPath = "invalid-path", BAD_REQUEST,
        "Endereço inválido" / "Invalid path",
        "Um segmento do endereço é inválido." / "A segment of the path is not valid.";
    /// A query parameter is not of the form it needs.
    InvalidQuery = "invalid-query", BAD_REQUEST,
        "Parâmetro inválido" / "Invalid query",
        "Um parâmetro da consulta é inválido." / "A query parameter is not valid.";
    /// The actor is nobody we know.
    SignInRequired = "sign-in-required", UNAUTHORIZED,
        "Autenticação necessária" / "Sign in first",
        "Entre na sua conta para continuar." / "Sign in to go on.";
    /// The access token is forged, expired or not for us.
    InvalidToken = "invalid-token", UNAUTHORIZED,
        "Token inválido" / "Invalid token",
        "O token de acesso é inválido ou expirou." / "The access token is not valid, or has expired.";
    /// Address and password do not belong together.
    InvalidCredentials = "invalid-credentials", UNAUTHORIZED,
        "Credenciais inválidas" / "Invalid credentials",
        "E-mail ou senha incorretos." / "The email address or the password is wrong.";
    /// The session has ended, or what was presented is no refresh token of one.
    SessionEnded = "session-ended", UNAUTHORIZED,
        "Sessão encerrada" / "Session ended",
        "Esta sessão terminou. Entre de novo." / "This session has ended. Sign in again.";
    /// A request by cookie that none of our own pages made.
    CsrfFailed = "csrf-failed", FORBIDDEN,
        "Origem não comprovada" / "Cross-site request",
        "Com cookies, envie o cabeçalho Pontual-Csrf e chame de uma página permitida." / "With cookies, send the header Pontual-Csrf and call from an allowed page.";
    /// The account was deactivated.
    AccountDeactivated = "account-deactivated", FORBIDDEN,
        "Conta desativada" / "Account deactivated",
        "Esta conta está desativada. Reative-a para continuar." / "This account is deactivated. Reactivate it to go on.";
    /// The actor may not do this.
    Forbidden = "forbidden", FORBIDDEN,
        "Ação não permitida" / "Not allowed",
        "Você não tem permissão para fazer isso." / "You may not do this.";
    /// The account's address was not confirmed yet.
    EmailNotConfirmed = "email-not-confirmed", FORBIDDEN,
        "E-mail não confirmado" / "Email not confirmed",
        "Confirme seu endereço de e-mail para continuar." / "Confirm your email address to go on.";
    /// There is no such thing, or the actor may not know it.
    NotFound = "not-found", NOT_FOUND,
        "Não encontrado" / "Not found",
        "Não há nada neste endereço." / "There is nothing at this address.";
    /// The path exists, but not for this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED,
        "Método não permitido" / "Method not allowed",
        "Este endereço não aceita este método." / "This address does not take this method.";
    /// None of the forms we can answer in is acceptable.
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE,
        "Formato não disponível" / "Not acceptable",
        "A resposta não está disponível no formato pedido." / "There is no answer in the form asked for.";
    /// The client was too slow to send its request.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT,
        "Tempo esgotado" / "Request timeout",
        "A requisição demorou demais para chegar." / "The request took too long to arrive.";
    /// The slug is another provider's.
    SlugTaken = "slug-taken", CONFLICT,
        "Endereço de página em uso" / "Slug taken",
        "Este endereço de página já pertence a outro prestador." / "Another provider has this slug.";
    /// The slug is another category's.
    CategorySlugTaken = "category-slug-taken", CONFLICT,
        "Endereço de categoria em uso" / "Category slug taken",
        "Este endereço já pertence a outra categoria." / "Another category has this slug.";
    /// The address is another account's.
    EmailTaken = "email-taken", CONFLICT,
        "E-mail em uso" / "Email taken",
        "Este e-mail já pertence a outra conta." / "Another account has this email address.";
    /// The account has a shop already.
    ShopExists = "shop-exists", CONFLICT,
        "Você já é prestador" / "Shop exists",
        "Esta conta já abriu uma página de prestador." / "This account has opened a shop already.";
    /// Somebody else booked the slot (`S0-27`).
    SlotTaken = "slot-taken", CONFLICT,
        "O horário está ocupado" / "The slot is taken",
        "Outra pessoa reservou este horário; veja as alternativas." / "Somebody else has booked this slot; see the alternatives.";
    /// Somebody holds the slot while they check out.
    SlotHeld = "slot-held", CONFLICT,
        "O horário está sendo reservado" / "The slot is held",
        "Outra pessoa está concluindo a reserva deste horário; veja as alternativas." / "Somebody is about to book this slot; see the alternatives.";
    /// The group has no seat left.
    GroupFull = "group-full", CONFLICT,
        "A turma está cheia" / "The group is full",
        "Não há mais vagas neste horário; veja as alternativas." / "This slot has no seat left; see the alternatives.";
    /// The day has as many bookings as the provider takes.
    DayFull = "day-full", CONFLICT,
        "O dia está lotado" / "The day is full",
        "O prestador não aceita mais reservas neste dia; veja as alternativas." / "The provider takes no more bookings that day; see the alternatives.";
    /// The hold is for another slot than the booking.
    HoldMismatch = "hold-mismatch", CONFLICT,
        "Reserva temporária de outro horário" / "The hold is for another slot",
        "A reserva temporária informada é de outro horário." / "The hold you named is for another slot.";
    /// The hold has become an appointment already.
    HoldUsed = "hold-used", CONFLICT,
        "A reserva temporária já foi usada" / "The hold is used",
        "Esta reserva temporária já virou um agendamento; veja os seus agendamentos." / "This hold has become an appointment already; see your appointments.";
    /// Somebody waits for that service at a time that meets this one.
    AlreadyInLine = "already-in-line", CONFLICT,
        "Você já está na fila" / "You are in line already",
        "Você já espera por este serviço em parte deste período; saia da fila para mudar o período." / "You wait for this service in a part of that time already; leave the line to change the time.";
    /// Somebody would wait for what is free.
    NothingToWaitFor = "nothing-to-wait-for", CONFLICT,
        "Há horários livres" / "There is nothing to wait for",
        "Há horários livres nesse período; veja as alternativas." / "Something is free in that time; see the alternatives.";
    /// A series cannot be had whole, or not at all.
    SeriesNotBookable = "series-not-bookable", CONFLICT,
        "A série não está disponível" / "The series cannot be booked",
        "Nem todas as datas podem ser reservadas; veja quais, por quê e as alternativas." / "Not all of it can be booked; see which, why, and the alternatives.";
    /// The time to cancel or reschedule has passed (K19).
    TooLate = "too-late", CONFLICT,
        "Tarde demais" / "Too late",
        "O prazo para alterar este agendamento terminou." / "The time to change this appointment has passed.";
    /// The appointment has not begun, or not ended.
    NotYet = "not-yet", CONFLICT,
        "Ainda não" / "Not yet",
        "Isto só pode ser dito depois do início ou do fim do agendamento." / "This can only be said once the appointment has begun, or ended.";
    /// The appointment's end has passed.
    AlreadyEnded = "already-ended", CONFLICT,
        "Já terminou" / "Already ended",
        "O agendamento já terminou: o prestador informa se o cliente veio." / "The appointment has ended: the provider says whether the client came.";
    /// The time to set right whether the client came is over.
    CorrectionOver = "correction-over", CONFLICT,
        "Prazo de correção encerrado" / "Too late to set it right",
        "O prazo para corrigir a presença terminou." / "The time to set right whether the client came is over.";
    /// The appointment's status does not allow it.
    WrongStatus = "wrong-status", CONFLICT,
        "Situação não permite" / "Wrong status",
        "A situação do agendamento não permite isso." / "The appointment's status does not allow this.";
    /// A list is full.
    LimitReached = "limit-reached", CONFLICT,
        "Limite atingido" / "Limit reached",
        "O número máximo foi atingido." / "There may be no more of these.";
    /// The thing changed since the version the request names.
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED,
        "Versão desatualizada" / "Precondition failed",
        "O recurso mudou desde a versão informada." / "The resource has changed since the version you named.";
    /// The body is too large.
    PayloadTooLarge = "payload-too-large", PAYLOAD_TOO_LARGE,
        "Corpo grande demais" / "Payload too large",
        "O corpo da requisição é grande demais." / "The request's body is too large.";
    /// The body is not JSON by its content type.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "Tipo de conteúdo não aceito" / "Unsupported media type",
        "Envie o corpo como application/json." / "Send the body as application/json.";
    /// The body says something it may not say.
    InvalidInput = "invalid-input", UNPROCESSABLE_ENTITY,
        "Dados inválidos" / "Invalid input",
        "Alguns campos são inválidos; veja errors." / "Some fields are not valid; see errors.";
    /// A link from a mail is forged or damaged.
    InvalidLink = "invalid-link", UNPROCESSABLE_ENTITY,
        "Link inválido" / "Invalid link",
        "Este link é inválido. Peça um novo." / "This link is not valid. Ask for a new one.";
    /// The start is not in the future (`S0-28`).
    SlotInPast = "slot-in-past", UNPROCESSABLE_ENTITY,
        "Horário no passado" / "Slot in the past",
        "O horário pedido já passou." / "The start you asked for is in the past.";
    /// The start is sooner than the provider's notice.
    NoticeTooShort = "notice-too-short", UNPROCESSABLE_ENTITY,
        "Antecedência insuficiente" / "Notice too short",
        "O prestador pede mais antecedência." / "The provider asks for more notice.";
    /// The start is later than the provider's horizon.
    BeyondHorizon = "beyond-horizon", UNPROCESSABLE_ENTITY,
        "Data distante demais" / "Beyond the horizon",
        "O prestador ainda não aceita reservas para essa data." / "The provider does not take bookings that far ahead.";
    /// The day of an override is too far from today.
    DayOutOfReach = "day-out-of-reach", UNPROCESSABLE_ENTITY,
        "Dia distante demais" / "Day out of reach",
        "Este dia está distante demais de hoje para ser alterado." / "This day is too far from today to be changed.";
    /// No slot of the service starts then (`S0-26`).
    OutsideHours = "outside-hours", UNPROCESSABLE_ENTITY,
        "Fora do horário de atendimento" / "Outside working hours",
        "Nenhum horário deste serviço começa nesse instante." / "No slot of this service starts then.";
    /// The provider is off that day.
    DayOff = "day-off", UNPROCESSABLE_ENTITY,
        "Dia de folga" / "Day off",
        "O prestador não atende neste dia." / "The provider is off that day.";
    /// The provider is closed on that holiday.
    Holiday = "holiday", UNPROCESSABLE_ENTITY,
        "Feriado" / "Holiday",
        "O prestador não atende neste feriado." / "The provider is closed on that holiday.";
    /// The provider has time off then.
    TimeOff = "time-off", UNPROCESSABLE_ENTITY,
        "O prestador estará ausente" / "Time off",
        "O prestador estará ausente nesse horário." / "The provider has time off then.";
    /// The provider works then, but does not offer this service.
    OutsideServiceHours = "outside-service-hours", UNPROCESSABLE_ENTITY,
        "Serviço não oferecido nesse horário" / "Service not offered then",
        "O prestador atende nesse horário, mas não oferece este serviço." / "The provider works then, but does not offer this service.";
    /// One cannot book with oneself (`S0-29`, K17).
    OwnAppointment = "own-appointment", UNPROCESSABLE_ENTITY,
        "Agendamento consigo mesmo" / "Own appointment",
        "Não é possível agendar consigo mesmo." / "One cannot book with oneself.";
    /// So much happened until a point that it is not folded again.
    HistoryTooLong = "history-too-long", UNPROCESSABLE_ENTITY,
        "Histórico longo demais" / "History too long",
        "Aconteceu mais até esse ponto do que pode ser relido." / "More happened up to that point than can be read again.";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY,
        "Chave de idempotência reutilizada" / "Idempotency key reused",
        "Esta Idempotency-Key já foi usada com outro conteúdo." / "This Idempotency-Key was used with another body.";
    /// Too many requests.
    TooManyRequests = "too-many-requests", TOO_MANY_REQUESTS,
        "Requisições demais" / "Too many requests",
        "Aguarde antes de tentar de novo." / "Wait before you try again.";
    /// Something broke that should not have.
    Internal = "internal", INTERNAL_SERVER_ERROR,
        "Erro interno" / "Internal error",
        "Algo deu errado do nosso lado." / "Something went wrong on our side.";
    /// Too much to do right now; nothing was done.
    Busy = "busy", SERVICE_UNAVAILABLE,
        "Servidor ocupado" / "Busy",
        "Há muitas requisições agora. Tente de novo em instantes." / "There is too much to do right now. Try again in a moment.";
    /// A part we need cannot be reached.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE,
        "Serviço indisponível" / "Unavailable",
        "O serviço está indisponível no momento. Tente de novo em instantes." / "The service is unavailable at the moment. Try again shortly.";
    /// What is read has not caught up with `Pontual-After`.
    NotCaughtUp = "not-caught-up", SERVICE_UNAVAILABLE,
        "Ainda não atualizado" / "Not caught up",
        "A leitura ainda não alcançou a posição pedida." / "What you read has not reached the position you asked for.";
    /// The answer took too long.
    TimedOut = "timed-out", SERVICE_UNAVAILABLE,
        "Tempo esgotado" / "Timed out",
        "A resposta demorou demais. Tente de novo." / "The answer took too long. Try again.";
}

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// In Brazilian Portuguese.
    pub pt_br: Cow<'static, str>,
    /// In English.
    pub en: Cow<'static, str>,
}

impl Text {
    /// The two texts.
    pub fn new(pt_br: impl Into<Cow<'static, str>>, en: impl Into<Cow<'static, str>>) -> Self {
        Self { pt_br: pt_br.into(), en: en.into() }
    }

    fn pick(&self, locale: Locale) -> &str {
        locale.pick(&self.pt_br, &self.en)
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer into the body, or the name of a parameter or header.
    pub pointer: String,
    /// What it must be. Never what it was.
    pub detail: Text,
}

/// A failure, as the client will hear of it.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    detail: Option<Text>,
    errors: Vec<FieldError>,
    alternatives: Option<Vec<String>>,
    extensions: Map<String, Value>,
    retry_after_seconds: Option<u64>,
    tag: Option<Version>,
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        let retry_after_seconds = match kind.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        Self(Box::new(Inner {
            kind,
            detail: None,
            errors: Vec::new(),
            alternatives: None,
            extensions: Map::new(),
            retry_after_seconds,
            tag: None,
        }))
    }
}

impl Problem {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The problem a bare status stands for: an answer that did not come from our own code.
    pub fn of_status(status: StatusCode) -> Self {
        let kind = match status.as_u16() {
            401 => Kind::SignInRequired,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            405 => Kind::MethodNotAllowed,
            406 => Kind::NotAcceptable,
            408 => Kind::RequestTimeout,
            412 => Kind::PreconditionFailed,
            413 => Kind::PayloadTooLarge,
            415 => Kind::UnsupportedMediaType,
            422 => Kind::InvalidInput,
            429 => Kind::TooManyRequests,
            503 => Kind::Unavailable,
            _ if status.is_server_error() => Kind::Internal,
            _ => Kind::BadRequest,
        };
        Self::from(kind)
    }

    /// One field is wrong. `pointer` is a JSON pointer or a parameter's name; `detail` says what it must
    /// be, in English, without repeating what it was.
    pub fn field(kind: Kind, pointer: impl Into<String>, detail: &str) -> Self {
        Self::from(kind).with_field(pointer, detail)
    }

    /// One field more.
    #[must_use]
    pub fn with_field(mut self, pointer: impl Into<String>, detail: &str) -> Self {
        self.0.errors.push(FieldError { pointer: pointer.into(), detail: detail::text(detail) });
        self
    }

    /// A more exact detail.
    #[must_use]
    pub fn with_detail(mut self, detail: Text) -> Self {
        self.0.detail = Some(detail);
        self
    }

    /// An extension member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// The free starts that are nearest.
    #[must_use]
    fn with_alternatives(mut self, alternatives: Vec<Instant>) -> Self {
        self.0.alternatives = Some(alternatives.into_iter().map(rfc3339).collect());
        self
    }

    /// What is wrong in words: title and detail.
    pub fn words(&self, locale: Locale) -> (&'static str, String) {
        let detail = self.0.detail.as_ref();
        let detail = detail.map_or(self.0.kind.detail(locale), |detail| detail.pick(locale));
        (self.0.kind.title(locale), detail.to_owned())
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds.max(1));
        self
    }

    /// Something broke: the cause is logged here, once, and never sent.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(cause = %chain(cause), "a request failed");
        Self::from(Kind::Internal)
    }

    /// A part we need cannot be reached: the cause is logged here, once, and never sent.
    pub fn unavailable(cause: &(dyn Error + 'static)) -> Self {
        tracing::warn!(cause = %chain(cause), "a part that a request needs is unavailable");
        Self::from(Kind::Unavailable)
    }

    /// The answer, in a language, with the request's trace id.
    pub(crate) fn render(&self, locale: Locale, trace: Option<&str>) -> Response {
        let Inner { kind, detail, errors, alternatives, extensions, retry_after_seconds, tag } =
            &*self.0;
        let kind = *kind;
        let document = ProblemDocument {
            kind: kind.type_uri().into(),
            title: kind.title(locale).into(),
            status: kind.status().as_u16(),
            detail: detail
                .as_ref()
                .map_or(kind.detail(locale), |detail| detail.pick(locale))
                .to_owned(),
            trace_id: trace.map(str::to_owned),
            errors: errors
                .iter()
                .map(|error| InvalidField {
                    pointer: error.pointer.clone(),
                    detail: error.detail.pick(locale).to_owned(),
                })
                .collect(),
            alternatives: alternatives.clone(),
            extensions: extensions.clone(),
        };
        let body = serde_json::to_vec(&document).expect("a problem is plain JSON");
        let mut response = (kind.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(locale.tag()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if let Some(tag) = tag.and_then(|version| HeaderValue::try_from(etag(version)).ok()) {
            headers.insert(ETAG, tag);
        }
        if let Some(challenge) = challenge(kind) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// What a 401 asks for (RFC 6750 §3).
fn challenge(kind: Kind) -> Option<&'static str> {
    match kind.status() {
        StatusCode::UNAUTHORIZED if kind == Kind::InvalidToken => {
            Some("Bearer error=\"invalid_token\"")
        }
        StatusCode::UNAUTHORIZED => Some("Bearer"),
        _ => None,
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(Locale::default(), None);
        // The front writes it again, in the caller's language.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SignInRequired => Kind::SignInRequired.into(),
            Refusal::Forbidden => Kind::Forbidden.into(),
            Refusal::NotFound(what) => Self::from(Kind::NotFound).with_detail(no_such(what)),
            Refusal::EmailNotConfirmed => Kind::EmailNotConfirmed.into(),
            Refusal::InvalidCredentials => Kind::InvalidCredentials.into(),
            Refusal::PasswordRequired => {
                Self::field(Kind::InvalidInput, "/password", "is required")
            }
            Refusal::AccountDeactivated => Kind::AccountDeactivated.into(),
            Refusal::InvalidLink => Kind::InvalidLink.into(),
            Refusal::SessionEnded => Kind::SessionEnded.into(),
            Refusal::KeySpent => Kind::IdempotencyKeyReused.into(),
            Refusal::Claimed(ClaimKind::Email) => Kind::EmailTaken.into(),
            Refusal::Claimed(ClaimKind::Slug) => Kind::SlugTaken.into(),
            Refusal::Claimed(ClaimKind::Shop) => Kind::ShopExists.into(),
            Refusal::Claimed(ClaimKind::CategorySlug) => Kind::CategorySlugTaken.into(),
            Refusal::NotEveryService => Self::field(
                Kind::InvalidInput,
                "/services",
                "services must be all of the shop's, each once",
            ),
            Refusal::AnotherVersion { current } => {
                let mut problem = Self::from(Kind::PreconditionFailed);
                problem.0.tag = current;
                problem
            }
            Refusal::LimitReached { what, limit } => Self::from(Kind::LimitReached)
                .with_detail(Text::new(
                    format!("O máximo é {limit} {}.", plural_pt(what)),
                    format!("There may be at most {limit} {what}."),
                ))
                .with("limit", limit),
            Refusal::SlotTaken { alternatives } => {
                Self::from(Kind::SlotTaken).with_alternatives(alternatives)
            }
            Refusal::SlotHeld { alternatives } => {
                Self::from(Kind::SlotHeld).with_alternatives(alternatives)
            }
            Refusal::GroupFull { alternatives } => {
                Self::from(Kind::GroupFull).with_alternatives(alternatives)
            }
            Refusal::DayFull { limit, alternatives } => {
                Self::from(Kind::DayFull).with_alternatives(alternatives).with("limit", limit)
            }
            Refusal::HoldMismatch => Kind::HoldMismatch.into(),
            Refusal::AlreadyInLine => Kind::AlreadyInLine.into(),
            Refusal::HoldUsed => Kind::HoldUsed.into(),
            Refusal::SeriesNotBookable { refused } => {
                Self::from(Kind::SeriesNotBookable).with("occurrences", occurrences(refused))
            }
            Refusal::NothingToWaitFor { alternatives } => {
                Self::from(Kind::NothingToWaitFor).with_alternatives(alternatives)
            }
            Refusal::WaitingTime { days: _ } => Self::field(
                Kind::InvalidInput,
                "/to",
                "must be after from, in the future, and at most 14 days later",
            ),
            Refusal::InvalidRecurrence(invalid) => {
                Self::field(Kind::InvalidInput, invalid.field(), &invalid.to_string())
            }
            Refusal::SlotInPast => Kind::SlotInPast.into(),
            Refusal::NoticeTooShort { notice_minutes } => Self::from(Kind::NoticeTooShort)
                .with_detail(Text::new(
                    format!("O prestador pede {notice_minutes} minutos de antecedência."),
                    format!("The provider asks for {notice_minutes} minutes' notice."),
                ))
                .with("notice_minutes", notice_minutes),
            Refusal::BeyondHorizon { horizon_days } => Self::from(Kind::BeyondHorizon)
                .with_detail(Text::new(
                    format!("O prestador aceita reservas para até {horizon_days} dias à frente."),
                    format!("The provider takes bookings up to {horizon_days} days ahead."),
                ))
                .with("horizon_days", horizon_days),
            Refusal::DayOutOfReach { reach_days } => Self::from(Kind::DayOutOfReach)
                .with_detail(Text::new(
                    format!("Só dias a até {reach_days} dias de hoje podem ser alterados."),
                    format!("Only days within {reach_days} days of today can be changed."),
                ))
                .with("reach_days", reach_days),
            Refusal::OutsideHours => Kind::OutsideHours.into(),
            Refusal::DayOff => Kind::DayOff.into(),
            Refusal::Holiday(holiday) => {
                let name = |locale| holiday.name(locale);
                Self::from(Kind::Holiday).with_detail(Text::new(
                    format!("O prestador não atende neste feriado: {}.", name(Locale::PtBr)),
                    format!("The provider is closed on this holiday: {}.", name(Locale::En)),
                ))
            }
            Refusal::TimeOff => Kind::TimeOff.into(),
            Refusal::OutsideServiceHours => Kind::OutsideServiceHours.into(),
            Refusal::OwnAppointment => Kind::OwnAppointment.into(),
            Refusal::TooLate { window_minutes } => Self::from(Kind::TooLate)
                .with_detail(Text::new(
                    format!("Alterações são aceitas até {window_minutes} minutos antes do início."),
                    format!("Changes end {window_minutes} minutes before the start."),
                ))
                .with("window_minutes", window_minutes),
            Refusal::NotYet { from } => Self::from(Kind::NotYet).with("from", rfc3339(from)),
            Refusal::Ended { at } => Self::from(Kind::AlreadyEnded).with("ended_at", rfc3339(at)),
            Refusal::CorrectionOver { until } => {
                Self::from(Kind::CorrectionOver).with("until", rfc3339(until))
            }
            Refusal::WrongStatus { status, wanted } => Self::from(Kind::WrongStatus)
                .with("current_status", status)
                .with("wanted_status", wanted),
        }
    }
}

/// Which occurrences of a series cannot be booked, as members of its problem.
fn occurrences(refused: Vec<RefusedOccurrence>) -> Vec<Value> {
    let member = |occurrence: RefusedOccurrence| {
        let RefusedOccurrence { number, local, start, why, alternatives } = occurrence;
        json!({
            "number": number,
            "start": start.map(rfc3339),
            "local_start": local.format("%Y-%m-%dT%H:%M:%S").to_string(),
            "reason": why.as_str(),
            "alternatives": alternatives.into_iter().map(rfc3339).collect::<Vec<_>>(),
        })
    };
    refused.into_iter().map(member).collect()
}

fn rfc3339(at: Instant) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn no_such(what: &'static str) -> Text {
    let pt_br = match what {
        "account" => "Esta conta não existe.",
        "provider" => "Este prestador não existe.",
        "service" => "Este serviço não existe.",
        "category" => "Esta categoria não existe.",
        "appointment" => "Este agendamento não existe.",
        "hold" => "Esta reserva temporária não existe.",
        "time off" => "Esta ausência não existe.",
        "series" => "Esta série não existe.",
        "place in line" => "Este lugar na fila não existe.",
        "session" => "Esta sessão não existe.",
        "notification" => "Esta notificação não existe.",
        _ => {
            return Text::new(
                Kind::NotFound.detail(Locale::PtBr),
                format!("There is no such {what}."),
            );
        }
    };
    Text::new(pt_br, format!("There is no such {what}."))
}

fn plural_pt(what: &str) -> &str {
    match what {
        "services" => "serviços",
        "overrides" => "dias alterados",
        "stretches of time off" => "ausências",
        "sockets" => "conexões abertas",
        "changes of notes" => "alterações das anotações",
        "former slugs" => "endereços antigos",
        "moves" => "remarcações",
        "people in line" => "pessoas na fila",
        "places in line" => "lugares na fila",
        other => other,
    }
}

/// A failure (RFC 9457). `type` is stable; `title` and `detail` are for people and come in the language of
/// `Accept-Language`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "/problems/slot-taken",
    "title": "The slot is taken",
    "status": 409,
    "detail": "Somebody else has booked this slot; see the alternatives.",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "alternatives": ["2026-03-02T13:00:00Z", "2026-03-02T15:00:00Z"],
}))]
pub struct ProblemDocument {
    /// What kind of problem: a relative URI such as `/problems/slot-taken`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: Cow<'static, str>,
    /// The kind in words.
    #[schema(value_type = String)]
    title: Cow<'static, str>,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// The request's trace id; name it when you ask for help.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<InvalidField>,
    /// With `slot-taken`, `slot-held`, `group-full`, `day-full` and `nothing-to-wait-for`: the nearest free starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Vec<String>>,
    /// Members of single kinds.
    #[serde(flatten)]
    #[schema(ignore)]
    extensions: Map<String, Value>,
}

/// A field that is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvalidField {
    /// A JSON pointer into the body, or the name of a parameter or header.
    #[schema(example = "/email")]
    pointer: String,
    /// What it must be.
    #[schema(example = "email must be an address such as ana@example.com")]
    detail: String,
}

/// The failures any command can answer, for the OpenAPI document.
pub struct CommandProblems;

/// The failures any query can answer, for the OpenAPI document.
pub struct QueryProblems;

type Responses = BTreeMap<String, RefOr<utoipa::openapi::Response>>;

fn documented(problems: &[(u16, &str)]) -> Responses {
    let document = |(status, description): &(u16, &str)| {
        let content = ContentBuilder::new()
            .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
            .build();
        let response =
            ResponseBuilder::new().description(*description).content(PROBLEM_JSON, content).build();
        (status.to_string(), RefOr::T(response))
    };
    problems.iter().map(document).collect()
}

impl utoipa::IntoResponses for CommandProblems {
    fn responses() -> Responses {
        documented(&[
            (400, "malformed-json, invalid-header or invalid-path"),
            (401, "sign-in-required, invalid-token, invalid-credentials or session-ended"),
            (403, "forbidden, email-not-confirmed, account-deactivated or csrf-failed"),
            (404, "not-found"),
            (
                409,
                "a conflict with what is true now: slot-taken, slug-taken, too-late, wrong-status…",
            ),
            (
                412,
                "precondition-failed: it is at another version than If-Match names; ETag says at which",
            ),
            (413, "payload-too-large"),
            (415, "unsupported-media-type"),
            (422, "invalid-input, idempotency-key-reused, slot-in-past, outside-hours…"),
            (429, "too-many-requests"),
            (503, "busy or unavailable; Retry-After says when to try again"),
        ])
    }
}

impl utoipa::IntoResponses for QueryProblems {
    fn responses() -> Responses {
        documented(&[
            (400, "invalid-path, invalid-query or invalid-header"),
            (401, "sign-in-required or invalid-token"),
            (403, "forbidden"),
            (404, "not-found"),
            (429, "too-many-requests"),
            (503, "unavailable or not-caught-up; Retry-After says when to try again"),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn every_kind_has_its_own_type_and_a_failing_status() {
        let types: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.type_uri()).collect();
        assert_eq!(types.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert_eq!(kind.type_uri(), format!("/problems/{}", kind.slug()));
        }
    }

    #[tokio::test]
    async fn a_taken_slot_names_the_alternatives() {
        let at = "2026-03-02T13:00:00Z".parse().unwrap();
        let response = Problem::from(Refusal::SlotTaken { alternatives: vec![at] })
            .render(Locale::En, Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/problems/slot-taken",
                "title": "The slot is taken",
                "status": 409,
                "detail": "Somebody else has booked this slot; see the alternatives.",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "alternatives": ["2026-03-02T13:00:00Z"],
            })
        );
    }

    #[test]
    fn a_401_says_how_to_sign_in_and_a_503_when_to_come_back() {
        let header = |kind: Kind, name| {
            Problem::from(kind).render(Locale::En, None).headers().get(name).cloned()
        };
        assert_eq!(header(Kind::SignInRequired, WWW_AUTHENTICATE).unwrap(), "Bearer");
        assert_eq!(
            header(Kind::InvalidToken, WWW_AUTHENTICATE).unwrap(),
            "Bearer error=\"invalid_token\""
        );
        assert_eq!(header(Kind::Busy, RETRY_AFTER).unwrap(), "1");
        assert_eq!(header(Kind::NotFound, RETRY_AFTER), None);
        assert_eq!(header(Kind::PreconditionFailed, ETAG), None);
    }
}
