//! `cargo oci login`, `logout` and `whoami`, with registries that require authentication and registries that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::messages::Schema;
use e2e::program::Home;
use e2e::registry::{PASSWORD, Registry, USER};
use e2e::require;
use e2e::sources::Sources;
use e2e::token::TokenPolicy;
use serde_json::{Value, json};

/// Wrong password that no output may contain.
const CANARY: &str = "canary-2e7d";

fn config(home: &Home) -> Option<Value> {
    let text = fs::read_to_string(home.docker_config().join("config.json")).ok()?;
    Some(serde_json::from_str(&text).expect("the file is JSON"))
}

#[test]
fn login_allows_push_until_logout() {
    require!(DockerRegistry);
    for registry in [
        Registry::with_passwords(),
        Registry::with_tokens(TokenPolicy::default()),
    ] {
        let (host, home, sources) = (registry.host(), Home::new(), Sources::widgets());
        let login = home.cargo_oci(["login", host, "--username", USER, "--password-stdin"]);
        let logged_in = login.stdin(&format!("{PASSWORD}\r\n")).succeeds();
        let file = home.docker_config().join("config.json");
        assert!(
            logged_in.stderr.contains(&format!("`{}`", file.display())),
            "{logged_in}"
        );
        assert!(
            logged_in.stderr.contains("stored in clear text"),
            "{logged_in}"
        );
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // `carol:correct horse` in base64, as Docker's config file stores it.
        let auth = "Y2Fyb2w6Y29ycmVjdCBob3JzZQ==";
        assert_eq!(
            config(&home),
            Some(json!({"auths": {host: {"auth": auth}}}))
        );

        let who = home.cargo_oci(["whoami", host]).succeeds();
        assert_eq!(who.stdout, format!("{USER}\n"));
        let lines: Vec<_> = who.stderr.lines().map(str::trim).collect();
        let used = format!("Using {USER} from docker config `{}`", file.display());
        assert_eq!(
            lines[..2],
            ["Searched `DOCKER_AUTH_CONFIG`: no credential", &used],
            "{who}"
        );
        assert!(
            lines[2..].iter().any(|line| line.contains("podman's")),
            "{who}"
        );
        assert_eq!(lines.last(), Some(&format!("Accepted by {host}").as_str()));

        home.cargo_oci(["push", "--registry", host])
            .within(sources.path())
            .succeeds();
        home.cargo_oci(["logout", host]).succeeds();
        assert_eq!(config(&home), Some(json!({"auths": {}})));
        let refused = home
            .cargo_oci(["tags", &format!("{host}/widgets")])
            .fails_with(3);
        let advice = format!("`cargo oci login {host}`");
        assert!(refused.stderr.contains(&advice), "{refused}");
        let anonymous = home.cargo_oci(["whoami", host]).fails_with(3);
        assert!(
            anonymous.stderr.contains("DOCKER_AUTH_CONFIG"),
            "{anonymous}"
        );
        let again = home.cargo_oci(["logout", host]).succeeds();
        assert!(again.stderr.contains("no credential"), "{again}");
    }
}

#[test]
fn rejected_credential_is_not_stored() {
    require!(DockerRegistry);
    for registry in [
        Registry::with_passwords(),
        Registry::with_tokens(TokenPolicy::default()),
    ] {
        let (host, home) = (registry.host(), Home::new());
        let login = home.cargo_oci(["login", host, "-u", USER, "--password-stdin"]);
        let refused = login.stdin(CANARY).fails_with(3);
        assert!(!refused.stderr.contains(CANARY), "{refused}");
        let said = format!("failed to log in to `{host}`: wrong user name or password");
        assert!(refused.stderr.contains(&said), "{refused}");
        assert!(refused.stderr.contains("help: check both"), "{refused}");
        assert!(!refused.stderr.contains("cargo oci login"), "{refused}");
        assert_eq!(config(&home), None);
    }
    let home = Home::new();
    home.cargo_oci([
        "login",
        "127.0.0.1:1",
        "-u",
        USER,
        "--password-stdin",
        "--retries=0",
    ])
    .stdin(CANARY)
    .fails_with(6);
    // If there is no terminal, the program cannot prompt for the password.
    home.cargo_oci(["login", "127.0.0.1:1", "-u", USER])
        .fails_with(2);
    assert_eq!(config(&home), None);
}

#[test]
fn login_without_authentication_stores_unverified() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let login = home.cargo_oci(["login", registry.host(), "-u", USER, "--password-stdin"]);
    let logged_in = login.stdin(PASSWORD).succeeds();
    assert!(logged_in.stderr.contains("was not verified"), "{logged_in}");
    let who = home.cargo_oci(["whoami", registry.host()]).succeeds();
    assert_eq!(who.stdout, format!("{USER}\n"));
    assert!(
        who.stderr.contains("does not require authentication"),
        "{who}"
    );
}

#[test]
fn whoami_without_credentials_prints_anonymous() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::open(), Home::new());
    let who = home.cargo_oci(["whoami", registry.host()]).succeeds();
    assert_eq!(who.stdout, "<anonymous>\n");
    assert!(
        who.stderr.contains("does not require authentication"),
        "{who}"
    );
    home.cargo_oci(["whoami", "127.0.0.1:1", "--retries=0"])
        .fails_with(6);

    // If a registry requires authentication, the error lists each credential source once.
    let registry = Registry::with_passwords();
    let anonymous = home.cargo_oci(["whoami", registry.host()]).fails_with(3);
    let file = home.docker_config().join("config.json");
    let count = anonymous.stderr.matches(file.to_str().unwrap()).count();
    assert_eq!(count, 1, "{anonymous}");
}

#[test]
fn whoami_messages_list_searched_and_used_sources() {
    require!(DockerRegistry);
    let registry = Registry::with_passwords();
    let (host, home) = (registry.host(), Home::for_user(registry.host()));
    let who = home.cargo_oci(["whoami", host, "--message-format=json"]);
    let messages = Schema::from_documentation().validate(&who.succeeds().stdout);
    let (last, places) = messages.split_last().unwrap();
    let source = format!(
        "docker config `{}`",
        home.docker_config().join("config.json").display()
    );
    assert_eq!(places[0]["username"], Value::Null);
    assert_eq!(places[0]["used"], false);
    assert_eq!(places[1]["source"], source);
    assert_eq!(places[1]["username"], USER);
    assert_eq!(places[1]["used"], true);
    assert_eq!(
        *last,
        json!({"reason": "oci-identity", "registry": host, "username": USER, "source": source, "demanded": true, "access": "authenticated", "rate-limit": null})
    );
    let open = Registry::open();
    let who = home.cargo_oci(["whoami", open.host(), "--message-format=json"]);
    let messages = Schema::from_documentation().validate(&who.succeeds().stdout);
    let last = messages.last().unwrap();
    assert_eq!(
        (&last["username"], &last["demanded"], &last["access"]),
        (&Value::Null, &json!(false), &json!("anonymous"))
    );
}

#[test]
fn login_reports_helper_and_credential_with_precedence() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let host = registry.host();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\nkept=\"$HOME/kept\"\ncase \"$1\" in\nstore) cat > \"$kept\" ;;\n\
        get) if [ -f \"$kept\" ]; then cat \"$kept\"; else echo 'credentials not found in native keychain'; exit 1; fi ;;\n\
        erase) rm \"$kept\" ;;\nesac\n";
    let program = bin.join("docker-credential-file");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = home.docker_config().join("config.json");
    fs::write(
        &file,
        "{\"detachKeys\": \"ctrl-x\", \"credsStore\": \"file\"}",
    )
    .unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());

    let login = home.cargo_oci(["login", host, "-u", USER, "--password-stdin"]);
    let login = login.stdin(PASSWORD).with("PATH", &path);
    let logged_in = login.clone().succeeds();
    assert!(
        logged_in.stderr.contains("credential helper `file`"),
        "{logged_in}"
    );
    assert!(
        !logged_in.stderr.contains("stored in clear text"),
        "{logged_in}"
    );
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!(
            "{{\n\t\"detachKeys\": \"ctrl-x\",\n\t\"credsStore\": \"file\",\n\t\"auths\": {{\n\t\t\"{host}\": {{}}\n\t}}\n}}"
        )
    );
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(home.path().join("kept")).unwrap()).unwrap();
    let expected = json!({"ServerURL": host, "Username": USER, "Secret": PASSWORD});
    assert_eq!(kept, expected);
    let who = home
        .cargo_oci(["whoami", host, "-q"])
        .with("PATH", &path)
        .succeeds();
    assert_eq!((who.stdout.as_str(), who.stderr.as_str()), ("carol\n", ""));

    let before = json!({"auths": {host: {"auth": "bWU6eA=="}}}).to_string();
    let shadowed = login.with("DOCKER_AUTH_CONFIG", before).succeeds();
    assert!(
        shadowed
            .stderr
            .contains("has precedence: `DOCKER_AUTH_CONFIG`"),
        "{shadowed}"
    );
    let out = home
        .cargo_oci(["logout", host])
        .with("PATH", &path)
        .succeeds();
    assert!(out.stderr.contains("credential helper `file`"), "{out}");
    assert!(!home.path().join("kept").exists());
}

#[test]
fn typed_password_is_not_echoed() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let host = registry.host();
    let login = home.cargo_oci_at_terminal(&format!("login {host}"));
    let (user, password) = (format!("{USER}\n"), format!("{PASSWORD}\n"));
    let prompts = [("Username for ", &*user), ("Password or token", &*password)];
    let shown = login.answer_prompts(&prompts).succeeds();
    assert!(
        shown.stdout.contains(&format!("Username for {host}: ")),
        "{shown}"
    );
    assert!(
        shown.stdout.contains(&format!("of {USER} for {host}: ")),
        "{shown}"
    );
    assert!(!shown.stdout.contains(PASSWORD), "{shown}");
    assert!(config(&home).is_some());
}

#[test]
fn ctrl_c_at_password_prompt_restores_terminal() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let line = format!(
        "login {} -u {USER}; echo \"code $?\"; stty -a",
        registry.host()
    );
    let shown = home.cargo_oci_at_terminal(&line);
    let shown = shown.answer_prompts(&[("Password or token", "\u{3}")]);
    assert!(shown.stdout.contains("code 130"), "{shown}");
    let after = shown.stdout.rsplit_once("code 130").unwrap().1;
    assert!(
        after.contains(" echo ") && !after.contains("-echo "),
        "{shown}"
    );
    assert_eq!(config(&home), None);
}

#[test]
fn login_for_mixed_case_host_is_found_and_replaced() {
    require!(DockerRegistry);
    let registry = Registry::with_passwords();
    let port = registry.host().rsplit_once(':').expect("a port").1;
    let (typed, stored) = (format!("LocalHost:{port}"), format!("localhost:{port}"));
    let home = Home::for_user(&typed);
    let who = home.cargo_oci(["whoami", &stored]).succeeds();
    assert_eq!(who.stdout, format!("{USER}\n"));

    let login = home.cargo_oci(["login", &typed, "-u", USER, "--password-stdin"]);
    login.stdin(PASSWORD).succeeds();
    let entries = config(&home).unwrap()["auths"].clone();
    let keys: Vec<_> = entries.as_object().unwrap().keys().collect();
    assert_eq!(keys, [&stored]);
    home.cargo_oci(["logout", &typed]).succeeds();
    assert_eq!(config(&home), Some(json!({"auths": {}})));
}

#[test]
fn docker_auth_config_with_unknown_keys_is_used() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let host = registry.host();
    let auth = "Y2Fyb2w6Y29ycmVjdCBob3JzZQ==";
    let full = json!({"username": USER, "password": PASSWORD, "email": "c@example.org"});
    let mut with_auth = full.clone();
    with_auth["auth"] = json!(auth);
    for entry in [full, with_auth] {
        let variable = json!({"auths": {host: entry}, "HttpHeaders": {}}).to_string();
        let who = home.cargo_oci(["whoami", host]);
        let who = who.with("DOCKER_AUTH_CONFIG", variable).succeeds();
        assert_eq!(who.stdout, format!("{USER}\n"));
    }
}

#[test]
fn invalid_docker_auth_config_entry_warns_and_is_skipped() {
    require!(DockerRegistry);
    let registry = Registry::with_passwords();
    let (host, home) = (registry.host(), Home::for_user(registry.host()));
    let tags = |variable: Value| {
        let tags = home.cargo_oci(["tags", &format!("{host}/widgets")]);
        let tags = tags.with("DOCKER_AUTH_CONFIG", variable.to_string());
        tags.fails_with(4).stderr
    };
    let helper = tags(json!({"credHelpers": {host: "nowhere"}}));
    assert!(!helper.contains("DOCKER_AUTH_CONFIG"), "{helper}");
    let broken = tags(json!({"auths": {host: {"auth": CANARY}}}));
    let warning = format!(
        "note: failed to read the credential of `{host}` in `DOCKER_AUTH_CONFIG`: `auth` is not base64 of `user:password`\n"
    );
    assert_eq!(broken.matches(&warning).count(), 1, "{broken}");
    assert!(!broken.contains(CANARY), "{broken}");
}

#[test]
fn invalid_docker_config_fails_with_hint() {
    require!(DockerRegistry);
    let (registry, home) = (Registry::with_passwords(), Home::new());
    let reference = format!("{}/widgets", registry.host());
    let tags = || home.cargo_oci(["tags", &reference]);
    let broken = tags().with("DOCKER_AUTH_CONFIG", "{bad").fails_with(2);
    assert!(broken.stderr.contains("correct or remove it"), "{broken}");
    let file = home.docker_config().join("config.json");
    fs::create_dir_all(home.docker_config()).unwrap();
    fs::write(&file, "{bad").unwrap();
    let broken = tags().fails_with(2);
    assert!(broken.stderr.contains("correct or remove it"), "{broken}");
    fs::write(&file, r#"{"credsStore":"nowhere"}"#).unwrap();
    let missing = tags().fails_with(3);
    let advice = "install `docker-credential-nowhere`";
    assert!(missing.stderr.contains(advice), "{missing}");
}
