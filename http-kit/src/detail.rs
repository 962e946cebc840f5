//! What is wrong with a field, in both languages, from what serde and the domain's types say.
//!
//! Serde's own messages repeat the input (`invalid type: string "ana@…", expected u16`); [`clean`] keeps
//! what was expected and drops what was found. The domain's messages never repeat it.

use crate::problem::Text;

/// What is said where nothing better is known.
pub(crate) const UNKNOWN_FORM: &str = "is not of the form it needs";

/// A serde message without the input it repeats and without the place, which the pointer says better.
pub(crate) fn clean(message: &str) -> String {
    let message = match message.rfind(" at line ") {
        Some(end) => &message[..end],
        None => message,
    };
    let found = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if found.iter().any(|prefix| message.starts_with(prefix)) {
        return match message.rfind(", expected ") {
            Some(at) => message[at + ", ".len()..].to_owned(),
            None => UNKNOWN_FORM.to_owned(),
        };
    }
    if message.starts_with("missing field ") {
        return "is required".to_owned();
    }
    if message.starts_with("unknown field ") {
        return "is not a field of this request".to_owned();
    }
    if message.starts_with("duplicate field ") {
        return "must be given once".to_owned();
    }
    if message.starts_with("UUID parsing failed") {
        return "expected a UUID".to_owned();
    }
    message.to_owned()
}

/// Both languages of an English detail. One that has no translation is said in English.
pub(crate) fn text(en: &str) -> Text {
    match pt_br(en) {
        Some(pt_br) => Text::new(pt_br, en.to_owned()),
        None => Text::new(en.to_owned(), en.to_owned()),
    }
}

fn pt_br(en: &str) -> Option<String> {
    if let Some(pt) = FIXED.iter().find_map(|(from, to)| (*from == en).then_some(*to)) {
        return Some(pt.to_owned());
    }
    if let Some(what) = en.strip_prefix("not a valid ").and_then(|rest| rest.strip_suffix(" id")) {
        return Some(format!("não é um id válido ({what})"));
    }
    if let Some(expected) = en.strip_prefix("expected one of ") {
        return Some(format!("deve ser um de {expected}"));
    }
    if let Some(expected) = en.strip_prefix("expected ") {
        return Some(format!("deve ser {}", kind_pt(expected)));
    }
    let (what, rest) = en.split_once(" must ")?;
    let what = if what == "a day" { "o dia" } else { what };
    if let Some(bounds) = rest.strip_prefix("have ").and_then(|r| r.strip_suffix(" characters")) {
        let (min, max) = bounds.split_once(" to ")?;
        return Some(format!("{what} deve ter de {min} a {max} caracteres"));
    }
    if let Some(bounds) = rest.strip_prefix("be between ") {
        let (min, max) = bounds.split_once(" and ")?;
        return Some(format!("{what} deve estar entre {min} e {max}"));
    }
    if rest == "not contain control characters" {
        return Some(format!("{what} não pode conter caracteres de controle"));
    }
    let form = FORMS.iter().find_map(|(from, to)| (rest == *from).then_some(*to))?;
    Some(format!("{what} deve ser {form}"))
}

/// What serde expected, in Portuguese where it is a kind of value.
fn kind_pt(expected: &str) -> &str {
    match expected {
        "a string" | "string" | "str" => "um texto",
        "a boolean" => "true ou false",
        "a sequence" => "uma lista",
        "a map" => "um objeto",
        "a UUID" => "um UUID",
        "u8" | "u16" | "u32" | "u64" | "usize" => "um número inteiro não negativo",
        "i8" | "i16" | "i32" | "i64" => "um número inteiro",
        other if other.starts_with("struct ") => "um objeto",
        other => other,
    }
}

const FIXED: &[(&str, &str)] = &[
    ("is required", "é obrigatório"),
    ("is not a field of this request", "não é um campo desta requisição"),
    ("is not a parameter of this request", "não é um parâmetro desta requisição"),
    (UNKNOWN_FORM, "não tem o formato necessário"),
    ("must be given once", "deve ser informado uma única vez"),
    ("is not the password of this account", "não é a senha desta conta"),
    ("not a position token", "não é uma posição do log"),
    ("not a cursor of this list", "não é um cursor desta lista"),
    ("must be in the past", "deve estar no passado"),
    ("give as_of or as_of_position, not both", "informe as_of ou as_of_position, não ambos"),
    (
        "must name a position of the partition this is in",
        "deve indicar uma posição da partição em que isto está",
    ),
    ("give from and to, or view and date", "informe from e to, ou view e date"),
    ("must be from 0 to 61 days after from", "deve ser de 0 a 61 dias depois de from"),
    (
        "a time of day must be HH:MM, from 00:00 to 24:00",
        "uma hora do dia deve ser HH:MM, de 00:00 a 24:00",
    ),
    (
        "windows must end after they start, be in order and not overlap",
        "os intervalos devem terminar depois de começar, estar em ordem e não se sobrepor",
    ),
    ("a day may have at most 24 windows", "um dia pode ter no máximo 24 intervalos"),
    (
        "a local time must be such as 2026-12-24T12:00",
        "um horário local deve ser como 2026-12-24T12:00",
    ),
    (
        "time off must end after it starts, and within 367 days",
        "a ausência deve terminar depois de começar, e em até 367 dias",
    ),
    (
        "must not be before from, nor 62 days or more after it",
        "não pode ser antes de from, nem 62 dias ou mais depois",
    ),
    (
        "rrule must be given with COUNT or UNTIL, not both",
        "rrule deve ter COUNT ou UNTIL, não ambos",
    ),
    (
        "must be after from, in the future, and at most 14 days later",
        "deve ser depois de from, no futuro e no máximo 14 dias depois",
    ),
    ("rrule must be over within five years", "rrule deve terminar em até cinco anos"),
];

const FORMS: &[(&str, &str)] = &[
    ("be the same as password", "igual a password"),
    ("be an address such as ana@example.com", "um endereço como ana@example.com"),
    ("be digits, spaces and +-().", "dígitos, espaços e +-()."),
    (
        "be lower-case letters, digits and single hyphens",
        "letras minúsculas, dígitos e hífens simples",
    ),
    ("be a name that is not reserved", "um nome que não seja reservado"),
    ("be an IANA name such as America/Sao_Paulo", "um nome IANA como America/Sao_Paulo"),
    (
        "be an ISO 4217 code of three capital letters, of a currency in use",
        "um código ISO 4217 de três letras maiúsculas, de uma moeda em uso",
    ),
    (
        "be an RFC 3339 instant such as 2026-03-02T13:00:00Z, from 1970 to 2200",
        "um instante RFC 3339 como 2026-03-02T13:00:00Z, de 1970 a 2200",
    ),
    ("be a date such as 2026-03-02, from 1970 to 2200", "uma data como 2026-03-02, de 1970 a 2200"),
    ("be an http or https address", "um endereço http ou https"),
    ("be a name such as @salao.da.ana", "um nome como @salao.da.ana"),
    ("be a colour such as #3366ff", "uma cor como #3366ff"),
    ("be lower-case letters, digits and hyphens", "letras minúsculas, dígitos e hífens"),
    ("be a list of at most 20 that differ", "uma lista de no máximo 20, todos diferentes"),
    ("be all of the shop's, each once", "todos os do prestador, cada um uma vez"),
    ("be given with longitude", "informado junto com longitude"),
    ("be given with near", "informado junto com near"),
    (
        "be latitude,longitude such as -23.5505,-46.6333",
        "latitude,longitude, como -23.5505,-46.6333",
    ),
    ("be at most max_price_minor", "no máximo max_price_minor"),
    ("be at least 0", "no mínimo 0"),
    ("be given with a price", "informado junto com um preço"),
    ("be a text with a letter or a digit", "um texto com uma letra ou um dígito"),
    (
        "be an RFC 5545 rule such as FREQ=WEEKLY;BYDAY=TU;COUNT=10",
        "uma regra da RFC 5545 como FREQ=WEEKLY;BYDAY=TU;COUNT=10",
    ),
    (
        "be of FREQ (DAILY, WEEKLY or MONTHLY), INTERVAL, BYDAY, BYMONTHDAY, WKST, COUNT and UNTIL",
        "composta de FREQ (DAILY, WEEKLY ou MONTHLY), INTERVAL, BYDAY, BYMONTHDAY, WKST, COUNT e UNTIL",
    ),
    ("be of at most 60 occurrences", "de no máximo 60 ocorrências"),
    ("be of at least one occurrence", "de pelo menos uma ocorrência"),
    ("be the first occurrence of rrule", "a primeira ocorrência de rrule"),
    ("be 1 to 255 visible ASCII characters", "de 1 a 255 caracteres ASCII visíveis"),
];

#[cfg(test)]
mod tests {
    use domain::hours::{MinuteOfDay, Policy, Windows, Zone};
    use domain::ids::AccountId;
    use domain::money::Money;
    use domain::position::Position;
    use domain::provider::{Point, Specializations};
    use domain::recurrence::InvalidRecurrence;
    use domain::text::{
        Color, EmailAddress, Instagram, NewSlug, Note, PersonName, Phone, Plan, Slug, Website,
    };

    use super::*;

    #[test]
    fn what_was_found_is_never_repeated() {
        for (message, cleaned) in [
            ("invalid type: string \"secret, expected x\", expected u16", "expected u16"),
            ("invalid value: integer `70000`, expected u16 at line 1 column 9", "expected u16"),
            (
                "unknown variant `root`, expected `client` or `provider`",
                "expected `client` or `provider`",
            ),
            (
                "unknown field `ana@example.com`, expected one of `a`, `b`",
                "is not a field of this request",
            ),
            ("missing field `email` at line 1 column 2", "is required"),
            ("UUID parsing failed: invalid character: found `z` at 3", "expected a UUID"),
            (
                "name must have 2 to 255 characters at line 1 column 12",
                "name must have 2 to 255 characters",
            ),
        ] {
            assert_eq!(clean(message), cleaned);
        }
    }

    #[test]
    fn what_the_domain_says_is_said_in_portuguese_too() {
        let said = [
            "A".parse::<PersonName>().unwrap_err().to_string(),
            "a\u{0}b".parse::<Note>().unwrap_err().to_string(),
            "x".repeat(9).parse::<EmailAddress>().unwrap_err().to_string(),
            "abc".parse::<Phone>().unwrap_err().to_string(),
            "a--b".parse::<Slug>().unwrap_err().to_string(),
            "admin".parse::<NewSlug>().unwrap_err().to_string(),
            "x".repeat(12).parse::<Website>().unwrap_err().to_string(),
            "a b".parse::<Instagram>().unwrap_err().to_string(),
            "#abcdeg".parse::<Color>().unwrap_err().to_string(),
            "Pro".parse::<Plan>().unwrap_err().to_string(),
            Point::from_degrees(91.0, 0.0).unwrap_err().to_string(),
            Specializations::try_from(vec!["a".parse().unwrap(), "a".parse().unwrap()])
                .unwrap_err()
                .to_string(),
            "services must be all of the shop's, each once".to_owned(),
            InvalidRecurrence::Form.to_string(),
            InvalidRecurrence::Unsupported.to_string(),
            InvalidRecurrence::Unbounded.to_string(),
            InvalidRecurrence::TooMany.to_string(),
            InvalidRecurrence::Empty.to_string(),
            InvalidRecurrence::TooFar.to_string(),
            InvalidRecurrence::Start.to_string(),
            "Mars/Base".parse::<Zone>().unwrap_err().to_string(),
            "25:00".parse::<MinuteOfDay>().unwrap_err().to_string(),
            "x".parse::<AccountId>().unwrap_err().to_string(),
            "x".parse::<Position>().unwrap_err().to_string(),
            serde_json::from_str::<Money>(r#"{"amount_minor":-1}"#).unwrap_err().to_string(),
            serde_json::from_str::<Money>(r#"{"amount_minor":1,"currency":"x"}"#).unwrap_err().to_string(),
            serde_json::from_str::<Windows>(r#"[{"from":"08:00","to":"08:00"}]"#).unwrap_err().to_string(),
            serde_json::from_str::<Windows>(&format!(
                "[{}]",
                vec![r#"{"from":"08:00","to":"09:00"}"#; 25].join(",")
            ))
            .unwrap_err()
            .to_string(),
            serde_json::from_str::<Policy>(
                r#"{"minimum_notice_minutes":0,"horizon_days":0,"cancellation_window_minutes":0,"confirmation":"manual"}"#,
            )
            .unwrap_err()
            .to_string(),
        ];
        for message in said {
            let cleaned = clean(&message);
            assert!(pt_br(&cleaned).is_some(), "no Portuguese for {cleaned:?}");
        }
    }
}
