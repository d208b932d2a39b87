//! Status output for users, JSON messages for programs, and outputs for CI systems.

use std::fs;

use e2e::messages::Schema;
use e2e::program::{Home, Outcome, Run};
use e2e::recorder::Recorder;
use e2e::registry::Registry;
use e2e::require;
use e2e::server::{Response, Server};
use e2e::sources::{Sources, host_triple};
use serde_json::Value;

fn push(home: &Home, sources: &Sources, host: &str, more: &[&str]) -> Run {
    let arguments = ["push", "--registry", host].into_iter();
    let arguments = arguments.chain(more.iter().copied());
    home.cargo_oci(arguments).within(sources.path())
}

/// Returns the reasons of all messages, in order.
fn reasons(messages: &[Value]) -> Vec<&str> {
    let reasons = messages.iter().map(|message| message["reason"].as_str());
    reasons.map(Option::unwrap).collect()
}

fn messages_with_reason<'a>(messages: &'a [Value], reason: &str) -> Vec<&'a Value> {
    let is_one = |message: &&Value| message["reason"] == reason;
    messages.iter().filter(is_one).collect()
}

#[test]
fn push_messages_match_documentation() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let (schema, host) = (Schema::from_documentation(), registry.host());
    let json = ["--message-format", "json"];

    let plan = push(&home, &sources, host, &["--dry-run", json[0], json[1]]).succeeds();
    let plan = schema.validate(&plan.stdout);
    assert_eq!(reasons(&plan), ["oci-plan"]);

    let pushed = push(&home, &sources, host, &json).succeeds();
    assert!(
        pushed.stdout.contains(r#""reason":"compiler-artifact""#),
        "cargo's messages are printed too: {pushed}"
    );
    let messages = schema.validate(&pushed.stdout);
    let mut expected = vec!["oci-blob"; 4];
    expected.extend(["oci-manifest", "oci-tag", "oci-index", "oci-finished"]);
    assert_eq!(reasons(&messages), expected, "{pushed}");
    let stored = registry.digest("widgets", &sources.target_tag()).unwrap();
    let index = registry.digest("widgets", &sources.version()).unwrap();
    let finished = messages_with_reason(&messages, "oci-finished")[0];
    assert_eq!(
        finished["reference"],
        format!("{host}/widgets:1.2.3@{index}")
    );
    assert_eq!(finished["digest"], index);
    let target = &finished["targets"][0];
    assert_eq!(target["target"], host_triple());
    assert_eq!(
        target["reference"],
        format!("{host}/widgets:{}@{stored}", sources.target_tag())
    );
    assert_eq!(finished["index-digest"], index);
    assert!(finished["requests"].as_u64() > Some(10), "{finished}");
    let sizes = messages_with_reason(&messages, "oci-blob");
    let sizes = sizes.iter().map(|blob| blob["size"].as_u64().unwrap());
    assert!(finished["bytes"].as_u64() > Some(sizes.sum()), "{finished}");
    assert_eq!(plan[0]["digest"], stored);
    let tag = format!("{host}/widgets:{}", sources.target_tag());
    assert_eq!(
        messages_with_reason(&messages, "oci-tag")[0]["reference"],
        tag
    );
    assert_eq!(
        messages_with_reason(&messages, "oci-index")[0]["targets"][0],
        host_triple()
    );

    // Status lines are printed on stderr. Without `--message-format`, stdout contains only the reference.
    for line in ["Uploaded round-1.2.3-", "Tagged ", "Indexed "] {
        assert!(pushed.stderr.contains(line), "{pushed}");
    }
    let again = push(&home, &sources, host, &[]).succeeds();
    assert_eq!(again.stdout, format!("{host}/widgets:1.2.3@{index}\n"));
    let again = push(&home, &sources, host, &json).succeeds();
    let messages = schema.validate(&again.stdout);
    assert_eq!(reasons(&messages), ["oci-manifest", "oci-finished"]);
    assert_eq!(messages[0]["action"], "exists");
    assert_eq!(messages[1]["index-digest"], index);
}

#[test]
fn pull_messages_name_files_and_error_kind() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let schema = Schema::from_documentation();
    push(&home, &sources, registry.host(), &[]).succeeds();
    let reference = format!("{}/widgets", registry.host());
    let pull = home.cargo_oci(["pull", &reference, "-o", "out", "--message-format", "json"]);
    let actions = |outcome: &Outcome| {
        let messages = schema.validate(&outcome.stdout);
        let files = messages_with_reason(&messages, "oci-file").into_iter();
        let files = files.map(|file| {
            let path = file["path"].as_str().unwrap().to_owned();
            assert!(fs::metadata(&path).unwrap().len() == file["size"].as_u64().unwrap());
            let name = path.rsplit('/').next().unwrap().to_owned();
            format!(
                "{} {name} {}",
                file["action"].as_str().unwrap(),
                file["executable"]
            )
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert_eq!(reasons(&messages).last(), Some(&"oci-finished"));
        files.join(", ")
    };
    let first = pull.clone().succeeds();
    assert_eq!(
        actions(&first),
        "pulled libshapes.so false, pulled round true, pulled square true"
    );
    fs::remove_file(home.path().join("out/round")).unwrap();
    assert_eq!(
        actions(&pull.clone().succeeds()),
        "exists libshapes.so false, exists square true, pulled round true"
    );

    fs::write(home.path().join("out/round"), "mine").unwrap();
    let refused = pull.fails_with(5);
    let messages = schema.validate(&refused.stdout);
    let error = messages.last().unwrap();
    assert_eq!(error["reason"], "oci-error");
    assert_eq!(
        (&error["kind"], &error["code"]),
        (&"conflict".into(), &5.into())
    );
    assert!(
        error["help"][0].as_str().unwrap().contains("--force"),
        "{error}"
    );
    assert!(messages_with_reason(&messages, "oci-finished").is_empty());
}

#[test]
fn push_writes_github_outputs_for_later_steps() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let (host, at) = (registry.host(), |name: &str| home.path().join(name));
    let in_action = |more: &[&str]| {
        let mut run = push(&home, &sources, host, more).with("GITHUB_ACTIONS", "true");
        for variable in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS"] {
            run = run.with(variable, at(variable));
        }
        run
    };
    fs::write(at("GITHUB_OUTPUT"), "earlier=1\n").unwrap();
    let pushed = in_action(&[]).succeeds();
    let index = pushed.printed_digest();
    assert_eq!(registry.digest("widgets", "1.2.3").unwrap(), index);
    let digest = registry.digest("widgets", &sources.target_tag()).unwrap();
    let target = format!("{host}/widgets:{}@{digest}", sources.target_tag());
    let triple = host_triple();
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    assert_eq!(
        read("GITHUB_OUTPUT"),
        format!(
            "earlier=1\nreference={host}/widgets:1.2.3@{index}\ndigest={index}\nindex-digest={index}\n\
             targets=[{{\"package\":\"widgets\",\"target\":\"{triple}\",\"reference\":\"{target}\",\"digest\":\"{digest}\"}}]\n"
        )
    );
    assert_eq!(read("GITHUB_ARTIFACTS"), format!("oci://{target}\n"));
    let summary = read("GITHUB_STEP_SUMMARY");
    let row = format!(
        "| widgets 1.2.3 | {} | `{host}/widgets:1.2.3` |",
        host_triple()
    );
    assert!(
        summary.lines().nth(2).unwrap().starts_with(&row),
        "{summary}"
    );
    let install = format!("cargo oci install {host}/widgets:1.2.3\n");
    assert!(summary.contains(&install), "{summary}");
    assert!(!pushed.stderr.contains("::error"), "{pushed}");

    sources.append(
        "src/bin/round.rs",
        "#[used]\nstatic CHANGED: [u8; 7] = *b\"changed\";",
    );
    let refused = in_action(&[]).fails_with(5);
    let command = refused
        .stderr
        .lines()
        .find(|line| line.starts_with("::error "));
    assert!(command.unwrap().contains("1.2.3"), "{refused}");
    let elsewhere = push(&home, &sources, host, &[]).fails_with(5);
    assert!(!elsewhere.stderr.contains("::error"), "{elsewhere}");
}

#[test]
fn push_of_workspace_reports_packages_in_name_order() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    let (host, at) = (registry.host(), |name: &str| home.path().join(name));
    sources.append("Cargo.toml", "members = [\"gadgets\"]");
    sources.write(
        "gadgets/Cargo.toml",
        "[package]\nname = \"gadgets\"\nversion = \"2.0.0\"\nedition = \"2024\"\n",
    );
    sources.write(
        "gadgets/src/main.rs",
        "fn main() { println!(\"gadget\") }\n",
    );
    let all = ["--workspace", "--no-index"];
    let mut run = push(&home, &sources, host, &all);
    for variable in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS"] {
        run = run.with(variable, at(variable));
    }
    let pushed = run.succeeds();
    let names: Vec<_> = pushed.stdout.lines().collect();
    let [first, second] = names[..] else {
        panic!("one name per package: {pushed}");
    };
    assert!(
        first.starts_with(&format!("{host}/gadgets:2.0.0__")),
        "{pushed}"
    );
    assert!(
        second.starts_with(&format!("{host}/widgets:1.2.3__")),
        "{pushed}"
    );
    let digests = [first, second].map(|name| name.split_once('@').unwrap().1);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    let output = read("GITHUB_OUTPUT");
    let delimiter = output.lines().next().unwrap().strip_prefix("reference<<");
    let delimiter = delimiter.unwrap();
    let lines = |values: [&str; 2]| format!("<<{delimiter}\n{}\n{delimiter}\n", values.join("\n"));
    // If a push writes no index, its index digest is empty.
    let expected = format!(
        "reference{}digest{}index-digest{}targets=[",
        lines([first, second]),
        lines(digests),
        lines(["", ""])
    );
    assert!(output.starts_with(&expected), "{output}");
    assert_eq!(
        read("GITHUB_ARTIFACTS"),
        format!("oci://{first}\noci://{second}\n")
    );
    let rows = read("GITHUB_STEP_SUMMARY");
    let rows: Vec<_> = rows.lines().skip(2).collect();
    assert!(rows[0].starts_with("| gadgets 2.0.0 |") && rows[1].starts_with("| widgets 1.2.3 |"));

    let json = push(
        &home,
        &sources,
        host,
        &["--workspace", "--message-format=json"],
    )
    .succeeds();
    let messages = Schema::from_documentation().validate(&json.stdout);
    let finished = messages_with_reason(&messages, "oci-finished");
    let messages: Vec<_> = finished
        .iter()
        .map(|end| end["reference"].as_str().unwrap())
        .collect();
    let reference = |name: &str, version: &str| {
        let index = registry.digest(name, version).unwrap();
        format!("{host}/{name}:{version}@{index}")
    };
    assert_eq!(
        messages,
        [reference("gadgets", "2.0.0"), reference("widgets", "1.2.3")]
    );
    assert!(finished.iter().all(|end| end["index-digest"].is_string()));
}

#[test]
fn verbose_logs_requests_without_secrets() {
    require!(DockerRegistry);
    let (registry, sources) = (Registry::with_passwords(), Sources::widgets());
    let recorder = Recorder::start(registry.host());
    let (host, home) = (recorder.host(), Home::for_user(&recorder.host()));
    let pushed = push(&home, &sources, &host, &["-v"]).succeeds();
    let shown = |outcome: &Outcome| {
        let lines = outcome.stderr.lines();
        let lines = lines.filter(|line| line.trim_start().starts_with("Request "));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let requests = recorder.take();
    assert_eq!(
        shown(&pushed).len(),
        requests.len(),
        "{pushed}\n{requests:#?}"
    );
    let uploads = shown(&pushed);
    let upload = uploads.iter().find(|line| line.starts_with("Request PUT"));
    let upload = upload.expect("a blob was sent");
    assert!(upload.contains("_state=…&digest=sha256:"), "{upload}");
    assert!(!pushed.stderr.contains("correct horse"), "{pushed}");

    let reference = format!("{host}/widgets");
    for command in ["tags", "manifest", "pull"] {
        let mut arguments = vec![command, &reference, "-v"];
        arguments.extend((command == "pull").then_some("--output=out"));
        let outcome = home.cargo_oci(arguments).succeeds();
        let requests = recorder.take();
        assert!(!requests.is_empty());
        assert_eq!(
            shown(&outcome).len(),
            requests.len(),
            "{outcome}\n{requests:#?}"
        );
    }
    let quiet = home.cargo_oci(["tags", &reference, "-q"]).succeeds();
    assert_eq!(quiet.stderr, "");
    home.cargo_oci(["tags", &reference, "-q", "-v"])
        .outcome()
        .stderr
        .contains("cannot be used with")
        .then_some(())
        .expect("`-q` and `-v` conflict");
}

#[test]
fn progress_bars_are_drawn_when_enabled() {
    require!(DockerRegistry);
    let (registry, home, sources) = (Registry::open(), Home::new(), Sources::widgets());
    // The file is so large that its progress bar is drawn during the upload.
    sources.write("made/big", &"0123456789abcdef".repeat(6 << 20));
    let host = registry.host();
    let file = ["--file", "big=made/big", "--target", host_triple()];
    let always = |run: Run| {
        run.with("CARGO_TERM_PROGRESS_WHEN", "always")
            .with("CARGO_TERM_PROGRESS_WIDTH", "100")
    };
    let pushed = always(push(&home, &sources, host, &file)).succeeds();
    let bar = |outcome: &Outcome, start: &str| {
        let mut lines = outcome.stderr.split(['\n', '\r']);
        lines.any(|line| {
            let line = line.rsplit("\u{1b}[2K").next().unwrap_or(line);
            line.trim_start().starts_with(start) && line.contains("/96.0 MiB") && line.contains('[')
        })
    };
    assert!(bar(&pushed, "Uploading big"), "{pushed}");
    assert!(
        pushed.stderr.contains("Uploaded big (96.0 MiB)"),
        "{pushed}"
    );

    let reference = format!("{host}/widgets");
    let pull = |output: &str| home.cargo_oci(["pull", &reference, "--output", output]);
    let pulled = always(pull("first")).succeeds();
    assert!(bar(&pulled, "Pulling big"), "{pulled}");
    let plain = pull("second").succeeds();
    let lines: Vec<_> = plain.stderr.lines().map(str::trim_start).collect();
    assert_eq!(lines.len(), 2, "two lines are expected: {plain}");
    assert!(
        lines[1].starts_with("Pulled second/big (96.0 MiB)"),
        "{plain}"
    );
    for run in [
        always(pull("third")).with("CARGO_TERM_QUIET", "true"),
        always(home.cargo_oci(["pull", &reference, "--quiet", "-o", "fourth"])),
    ] {
        assert_eq!(run.succeeds().stderr, "");
    }
}

/// Starts a registry that responds to the first request with 503 and to later requests with a list of one tag.
fn registry_unavailable_once() -> Server {
    Server::start(|_, earlier| match earlier {
        0 => Response::new(503),
        _ => Response::new(200).body(r#"{"tags":["1.0"]}"#),
    })
}

#[test]
fn retry_is_shown_as_a_warning_unless_quiet() {
    let (home, schema) = (Home::new(), Schema::from_documentation());
    let tags = |more: &[&str]| {
        let server = registry_unavailable_once();
        let name = format!("{}/acme/widgets", server.host());
        let arguments = ["tags", &name].into_iter().chain(more.iter().copied());
        let run = home.cargo_oci(arguments).succeeds();
        assert_eq!(server.requests().len(), 2, "{run}");
        (run, name)
    };
    let retry = |name: &str| {
        let (host, _) = name.split_once('/').unwrap();
        format!("`{host}` answered 503 Service Unavailable (4 tries remaining)")
    };
    let (run, name) = tags(&[]);
    let warning = format!("warning: {}", retry(&name));
    assert!(run.stderr.starts_with(&warning), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    assert_eq!(run.stdout, "1.0\n");

    let (run, _) = tags(&["-q"]);
    assert_eq!((&run.stderr[..], &run.stdout[..]), ("", "1.0\n"));

    let (run, name) = tags(&["--message-format=json"]);
    let messages = schema.validate(&run.stdout);
    assert_eq!(reasons(&messages), ["oci-warning", "oci-tag-entry"]);
    let message = messages[0]["message"].as_str().unwrap();
    assert!(message.starts_with(&retry(&name)), "{message}");
}

/// Starts a registry that has no content and rejects each upload and each tag.
fn read_only_registry() -> Server {
    Server::start(|request, _| match request.method.as_str() {
        "GET" | "HEAD" => Response::error(404, "NAME_UNKNOWN"),
        _ => Response::error(403, "DENIED"),
    })
}

#[test]
fn failed_push_and_copy_name_the_destination_once() {
    let (home, sources, server) = (Home::new(), Sources::widgets(), read_only_registry());
    let (host, large) = (server.host(), "large".repeat(2 << 20));
    sources.write("made", &large);
    let denied = "the registry answered 403 Forbidden DENIED: says the registry";
    let failed = push(&home, &sources, &host, &["--file=round=made"]).outcome();
    assert_eq!(failed.code, Some(3), "{failed}");
    let error = failed.stderr.split_once("error: ").unwrap().1;
    let path = sources.path().join("made");
    assert_eq!(
        error,
        format!(
            "failed to push `{host}/widgets:1.2.3`\n\nCaused by:\n  failed to push `{}`\n\n\
             Caused by:\n  failed to start an upload\n\nCaused by:\n  {denied}\n",
            path.display()
        )
    );

    sources.write("made", "small");
    push(&home, &sources, "oci:out", &["--file=round=made"]).succeeds();
    let layout = format!("oci:{}/widgets", sources.path().join("out").display());
    let copy = home.cargo_oci(["copy", &layout, &format!("{host}/widgets:1.2.3")]);
    let failed = copy.outcome();
    let error = failed.stderr.split_once("error: ").unwrap().1;
    assert_eq!(error.matches(&host).count(), 1, "{failed}");
    assert!(error.contains(denied), "{failed}");
}

#[test]
fn usage_error_is_printed_as_message_and_ci_annotation() {
    let (home, schema) = (Home::new(), Schema::from_documentation());
    for (line, said) in [
        (
            &["tags", "nope", "--message-format", "json"][..],
            "the registry is missing",
        ),
        (
            &["push", "--message-format=json", "nope"],
            "the registry is missing",
        ),
        (
            &["pull", "a.b/c", "--unknown", "--message-format=json"],
            "unexpected argument",
        ),
    ] {
        let refused = home.cargo_oci(line.iter().copied()).outcome();
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(refused.stderr.contains(said), "{refused}");
        let messages = schema.validate(&refused.stdout);
        assert_eq!(reasons(&messages), ["oci-error"], "{refused}");
        assert_eq!(messages[0]["kind"], "invalid_input");
        let message = messages[0]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    let refused = home.cargo_oci(["pull", "nope"]);
    let refused = refused.with("GITHUB_ACTIONS", "true").fails_with(2);
    assert!(
        refused
            .stderr
            .starts_with("::error title=cargo oci::failed"),
        "{refused}"
    );
    assert_eq!(refused.stdout, "");
    // Arguments after `--` are not flags, and `--help` is not an error.
    let behind = ["tags", "--", "nope", "--message-format=json"];
    let behind = home.cargo_oci(behind).outcome();
    assert_eq!(behind.code, Some(2), "{behind}");
    assert_eq!(behind.stdout, "");
    let help = home.cargo_oci(["tags", "--help", "--message-format=json"]);
    let help = help.succeeds();
    assert!(!help.stdout.contains("oci-error"), "{help}");
}

#[test]
fn pull_through_index_reports_index() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    let location = format!("oci:{}", home.path().join("out").display());
    push(&home, &sources, &location, &["--file=round=made"]).succeeds();
    let repository = format!("{location}/widgets");
    let index = e2e::layout::Layout::open(home.path().join("out/widgets"));
    let index = index.digest("1.2.3").unwrap();
    let direct = format!("{repository}:{}", sources.target_tag());
    for (line, expected) in [
        (["pull", &repository, "--output=a"], Some(&index)),
        (["install", &repository, "--root=b"], Some(&index)),
        (["pull", &direct, "--output=c"], None),
    ] {
        let line = line.into_iter().chain(["--message-format=json"]);
        let outcome = home.cargo_oci(line).succeeds();
        let messages = Schema::from_documentation().validate(&outcome.stdout);
        let finished = messages_with_reason(&messages, "oci-finished")[0];
        assert_eq!(
            finished["index-digest"].as_str(),
            expected.map(String::as_str),
            "{outcome}"
        );
    }
}

#[test]
fn registry_text_is_not_printed_as_workflow_command() {
    let (home, sources) = (Home::new(), Sources::widgets());
    sources.write("made", "x");
    let location = format!("oci:{}", home.path().join("out").display());
    let text = "::set-output name=a::b ##[add-mask]c";
    let annotation = format!("--annotation=org.opencontainers.image.description={text}");
    push(
        &home,
        &sources,
        &location,
        &["--file=round=made", &annotation],
    )
    .succeeds();
    let reference = format!("{location}/widgets");
    let show = |line: &[&str]| home.cargo_oci(line.iter().copied());
    let in_action = |line: &[&str]| show(line).with("GITHUB_ACTIONS", "true");
    let is_safe = |outcome: &Outcome| {
        let all = [&outcome.stdout[..], &outcome.stderr].concat();
        !all.contains("##[") && !all.lines().any(|line| line.trim().starts_with("::set"))
    };

    let plain = show(&["inspect", &reference]).succeeds();
    assert!(!is_safe(&plain), "the text is shown unchanged: {plain}");
    let broken = in_action(&["inspect", &reference]).succeeds();
    assert!(is_safe(&broken), "{broken}");
    assert!(
        broken
            .stdout
            .contains(": :set-output name=a::b ## [add-mask]c"),
        "{broken}"
    );

    let json = in_action(&["inspect", &reference, "--message-format=json"]).succeeds();
    assert!(is_safe(&json), "{json}");
    let messages = Schema::from_documentation().validate(&json.stdout);
    assert_eq!(
        messages_with_reason(&messages, "oci-inspection")[0]["description"],
        text
    );
    let manifest = ["manifest", &reference, "--target", host_triple()];
    let json = in_action(&manifest).succeeds();
    assert!(is_safe(&json), "{json}");
    let manifest: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.description"],
        text
    );

    // The error quotes the arguments. Only the program's own workflow commands may begin a line.
    for line in [
        &["inspect", "oci:##[add-mask]c"][..],
        &["pull", "##[add-mask]c"],
        &["tags", "a.b/c", "--##[add-mask]c"],
    ] {
        let failed = in_action(line).outcome();
        assert!(failed.code.is_some_and(|code| code > 0), "{failed}");
        assert!(is_safe(&failed), "{failed}");
        assert!(failed.stderr.contains("## [add-mask]c"), "{failed}");
        assert!(
            failed.stderr.starts_with("::error title=cargo oci::"),
            "{failed}"
        );
    }
}

#[test]
fn blob_written_to_stdout_is_followed_by_nothing() {
    let home = Home::new();
    let (content, layout) = ("content", home.path().join("layout"));
    let digest = e2e::sha256(content.as_bytes());
    let (algorithm, encoded) = digest.split_once(':').unwrap();
    let blobs = layout.join("blobs").join(algorithm);
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(encoded), content).unwrap();
    let marker = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(layout.join("oci-layout"), marker).unwrap();
    let program = e2e::testbed::program_path("cargo-oci");
    let blob = format!(
        "{} blob oci:layout@{digest} --force --output /dev/fd/1",
        program.display()
    );
    let piped = home.bash(&format!("{blob} | cat")).succeeds();
    assert_eq!(piped.stdout, content);
    // If stdout is redirected to a file, the blob is written at the current position of the file.
    let script = format!("{{ echo before; {blob}; echo after; }} > file; cat file");
    let redirected = home.bash(&script).succeeds();
    assert_eq!(redirected.stdout, "before\ncontentafter\n");
    let appended = home.bash(&format!("{blob} >> file; cat file")).succeeds();
    assert_eq!(appended.stdout, "before\ncontentafter\ncontent");
}
