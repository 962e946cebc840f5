//! The first administrator, and what production refuses.

use end_to_end::{Pontual, Profile};

const PASSWORD: &str = "an administrator's password";

fn create(email: &str) -> Vec<&str> {
    vec!["admin", "create", "--email", email, "--name", "Ana Souza"]
}

#[tokio::test]
async fn an_administrator_is_made_from_the_command_line_and_signs_in() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let by_file = [("PONTUAL_ADMIN_PASSWORD_FILE", file.to_str().unwrap())];
    for (email, input, variables) in [
        ("by-input@example.com", &*format!("{PASSWORD}\n"), &[][..]),
        ("by-file@example.com", "", &by_file[..]),
    ] {
        let (made, said) = pontual.run(&create(email), input, variables).await;
        assert!(made && said.contains("is an administrator"), "{said}");
        assert!(!said.contains(PASSWORD) && !said.contains(email), "{said}");
        let credentials = serde_json::json!({ "email": email, "password": PASSWORD });
        let answer = pontual.nobody().post("/api/auth/login", credentials).await.expect(200);
        let roles = answer.body["account"]["roles"].to_string();
        assert!(roles.contains("admin") && roles.contains("client"), "{roles}");

        let (again, said) = pontual.run(&create(email), "another password\n", &[]).await;
        assert!(again && said.contains("was there already"), "{said}");
        pontual.sign_in(email, PASSWORD).await;
    }
    assert!(!pontual.log().contains(PASSWORD));
}

#[tokio::test]
async fn somebody_with_an_account_becomes_an_administrator_and_keeps_their_password() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let (made, said) = pontual.run(&create(&bia.email), "another password\n", &[]).await;
    assert!(made && said.contains(&bia.account), "{said}");
    let again = serde_json::json!({ "email": bia.email, "password": "correct horse battery" });
    let answer = pontual.nobody().post("/api/auth/login", again).await.expect(200);
    assert!(answer.body["account"]["roles"].to_string().contains("admin"), "{}", answer.body);
}

#[tokio::test]
async fn an_administrator_needs_an_address_a_name_and_a_password_that_is_no_argument() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    for (arguments, input, wanted) in [
        (create("ana@example.com"), "short\n", "password must have 8 to 128 characters"),
        (create("ana@example.com"), "", "password must have 8 to 128 characters"),
        (create("ana"), "long enough\n", "--email"),
        (create("ana@example.com")[..4].to_vec(), "long enough\n", "--name"),
        ([&create("ana@example.com")[..], &["--password", "secret12"]].concat(), "", "--password"),
    ] {
        let (made, said) = pontual.run(&arguments, input, &[]).await;
        assert!(!made && said.contains(wanted), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn production_says_all_it_refuses_at_once_and_does_not_start() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let weak = [
        ("PONTUAL_ENV", "production"),
        ("PONTUAL_MASTER_KEY", &"ab".repeat(32)),
        ("PONTUAL_PUBLIC_URL", "http://pontual.example.com"),
    ];
    for command in [&["serve"][..], &["command-api"], &["worker"], &["demo"]] {
        let (started, said) = pontual.run(command, "", &weak).await;
        assert!(!started, "{said}");
        for variable in [
            "PONTUAL_MASTER_KEY",
            "PONTUAL_SIGNING_KEY",
            "PONTUAL_PUBLIC_URL",
            "PONTUAL_RATE_LIMITS",
        ] {
            assert!(said.contains(variable), "{command:?} {variable}: {said}");
        }
        assert!(!said.contains("abab"), "{said}");
    }
    let (good, said) = pontual.run(&["doctor"], "", &weak).await;
    assert!(
        !good && said.contains("✗ production") && said.contains("PONTUAL_RATE_LIMITS"),
        "{said}"
    );
    let (_, said) = pontual.run(&["doctor"], "", &[]).await;
    assert!(said.contains("! production") && said.contains("would refuse"), "{said}");
}
