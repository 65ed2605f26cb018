//! The settings file as its users meet it.

use dividend_config::{EXAMPLE, Finality, Price, Problem, Settings, SettingsError};

fn problems(text: &str) -> Vec<Problem> {
    Settings::parse(text).expect_err("the text is wrong").problems().to_vec()
}

fn paths(text: &str) -> Vec<String> {
    problems(text).into_iter().map(|problem| problem.path).collect()
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(Settings::parse(EXAMPLE).unwrap(), Settings::default());
    assert_eq!(Settings::parse("").unwrap(), Settings::default());
}

#[test]
fn the_example_still_parses_with_its_optional_keys() {
    let text: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with("[[") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = Settings::parse(&text).unwrap();
    assert_eq!(settings.redis.url.as_deref(), Some("redis://127.0.0.1:7414"));
    assert_eq!(settings.chain.chain_id, Some(31_337));
    assert_eq!(settings.prices.rule.len(), 1);
}

#[test]
fn the_example_names_every_key() {
    for line in EXAMPLE.lines().filter(|line| line.starts_with('[') && !line.contains("prices")) {
        let remedy = &problems(&format!("{line}\nnonsense = 1"))[0].remedy;
        let keys: Vec<&str> = remedy.split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{line}: {remedy}");
        for key in keys {
            assert!(EXAMPLE.contains(&format!("{key} = ")), "{line} lacks {key}");
        }
    }
}

#[test]
fn every_bad_value_is_reported_in_one_run() {
    let text = r#"
        [gateway]
        listen = "nowhere"
        admin_listen = "0.0.0.0:7411"
        max_body_bytes = 3
        bogus = 1
        [meter]
        window_ms = "an hour"
        durability = "hope"
        slots = -1
        [redis]
        url = "ftp://x"
        [chain]
        rpc_urls = []
        finality = "soon"
        [mystery]
        key = 1
    "#;
    let mut found = paths(text);
    found.sort();
    assert_eq!(
        found,
        [
            "chain.finality",
            "chain.rpc_urls",
            "gateway.admin_listen",
            "gateway.bogus",
            "gateway.listen",
            "gateway.max_body_bytes",
            "meter.durability",
            "meter.slots",
            "meter.window_ms",
            "mystery",
            "redis.url",
        ]
    );
}

#[test]
fn a_problem_names_path_value_and_remedy() {
    let error = Settings::parse("[meter]\nslots = -1\nwindow_ms = 7").unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 bad values in the settings\n  \
         meter.slots = -1: invalid value: integer `-1`\n    remedy: give a whole number, 0 or more\n  \
         meter.window_ms = 7: is below 100\n    remedy: give 100 to 604800000"
    );
    let listen = &problems("[dashboard]\nlisten = \"here\"")[0];
    assert_eq!(listen.value, "\"here\"");
    assert!(listen.remedy.contains("127.0.0.1:7410"), "{listen}");
    let unknown = &problems("[limits]\nrpm = 5")[0];
    assert_eq!(unknown.path, "limits.rpm");
    assert!(unknown.remedy.contains("`requests_per_minute`"), "{unknown}");
}

#[test]
fn listeners_must_differ_unless_the_port_is_free_choice() {
    assert_eq!(paths("[dashboard]\nlisten = \"127.0.0.1:7410\""), ["dashboard.listen"]);
    let free = "[dashboard]\nlisten = \"127.0.0.1:0\"\n[gateway]\nlisten = \"127.0.0.1:0\"";
    assert!(Settings::parse(free).is_ok());
}

#[test]
fn dependent_limits_are_checked_together() {
    assert_eq!(paths("[gateway]\nhold_expiry_ms = 1000"), ["gateway.hold_expiry_ms"]);
    assert_eq!(
        paths("[chain]\nwithdrawal_delay_s = 14_399"),
        ["chain.withdrawal_delay_s"],
        "twice two hours"
    );
    assert!(Settings::parse("[chain]\nwithdrawal_delay_s = 14_520").is_ok());
    assert_eq!(paths("[chain]\nmax_snapshot_age_ms = 79_140_001"), ["chain.max_snapshot_age_ms"]);
    assert_eq!(paths("[meter]\nwindow_ms = 600_000_000"), ["chain.withdrawal_delay_s"]);
}

#[test]
fn finality_is_a_word_or_a_depth() {
    assert_eq!(Settings::parse("[chain]\nfinality = 3").unwrap().chain.finality, Finality::Depth(3));
    assert_eq!(paths("[chain]\nfinality = -3"), ["chain.finality"]);
}

#[test]
fn each_bad_price_rule_is_found() {
    let text = r#"
        [[prices.rule]]
        target = "smollm2"
        input_pico_per_token = 1
        [[prices.rule]]
        target = "smollm2"
        input_pico_per_token = 1
        output_pico_per_token = "two"
    "#;
    assert_eq!(paths(text), ["prices.rule[0]", "prices.rule[1].output_pico_per_token"]);
    let twice = r#"
        rule = [
            { target = "a b", input_pico_per_token = 1, output_pico_per_token = 2_000_000_000_000 },
            { target = "x", input_pico_per_token = 1, output_pico_per_token = 2 },
            { target = "x", input_pico_per_token = 1, output_pico_per_token = 3 },
        ]
    "#;
    assert_eq!(
        paths(&format!("[prices]\n{twice}")),
        ["prices.rule[0].output_pico_per_token", "prices.rule[0].target", "prices.rule[2].from_unix_s"]
    );
}

#[test]
fn a_price_is_the_latest_rule_of_the_model_then_of_the_track() {
    let id = format!("0x{}", "ab".repeat(32));
    let rule = |target: &str, from: u64, input: u64| {
        format!(
            "[[prices.rule]]\ntarget = \"{target}\"\nfrom_unix_s = {from}\n\
             input_pico_per_token = {input}\noutput_pico_per_token = 9\n"
        )
    };
    let text = [rule("t", 0, 1), rule("t", 100, 2), rule("t", 50, 3), rule(&id, 200, 4)].concat();
    let prices = Settings::parse(&text).unwrap().prices;
    let input = |track, now| {
        let quote = prices.quote(&id, track, now);
        (quote.price.input_pico_per_token, quote.version)
    };
    assert_eq!(input(Some("t"), 0), (1, 0));
    assert_eq!(input(Some("t"), 99), (3, 50));
    assert_eq!(input(Some("t"), 100), (2, 100));
    assert_eq!(input(Some("t"), 200), (4, 200));
    assert_eq!(input(None, 199), (Price::default().input_pico_per_token, 0));
    assert_eq!(input(Some("other"), 199), (Price::default().input_pico_per_token, 0));
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    let missing = Settings::load(&path).unwrap_err();
    assert!(matches!(missing, SettingsError::Read { .. }));
    assert!(missing.to_string().contains(path.to_str().unwrap()), "{missing}");
    std::fs::write(&path, "[gateway\n").unwrap();
    let broken = Settings::load(&path).unwrap_err();
    assert!(matches!(broken, SettingsError::Syntax(_)));
    assert!(broken.to_string().contains("line 1"), "{broken}");
    std::fs::write(&path, "[gateway]\ndrain_ms = 5\n").unwrap();
    assert_eq!(Settings::load(&path).unwrap().gateway.drain_ms, 5);
}

#[test]
fn a_version_names_one_price_for_ever() {
    let prices = |text: &str| Settings::parse(text).unwrap().prices;
    let rule = |from: u64, input: u64| {
        format!(
            "[[prices.rule]]\ntarget = \"a\"\nfrom_unix_s = {from}\ninput_pico_per_token = {input}\noutput_pico_per_token = 1\n"
        )
    };
    let default = |from: u64, input: u64| {
        format!(
            "[prices.default]\nfrom_unix_s = {from}\ninput_pico_per_token = {input}\noutput_pico_per_token = 1\n"
        )
    };
    let refused = |new: &str, old: &str| prices(new).check_follows(&prices(old)).unwrap_err().path;
    assert_eq!(refused(&default(5, 2), &default(5, 1)), "prices.default.from_unix_s");
    assert_eq!(refused(&default(0, 2), ""), "prices.default.from_unix_s");
    assert_eq!(refused(&rule(5, 2), &rule(5, 1)), "prices.rule[0].from_unix_s");
    assert_eq!(prices(&default(6, 2)).check_follows(&prices(&default(5, 1))), Ok(()));
    let both = rule(5, 1) + &rule(6, 2);
    assert_eq!(prices(&both).check_follows(&prices(&rule(5, 1))), Ok(()));
    assert_eq!(prices("").check_follows(&prices(&both)), Ok(()), "a rule may be withdrawn");
}
