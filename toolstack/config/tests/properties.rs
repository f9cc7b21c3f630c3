//! Whatever the text, there is an answer; and what was read can be written and read again.

use proptest::prelude::*;
use xt_config::document::parse_bytes;
use xt_config::domain::Host;
use xt_config::keys::{self, SPEC_KEYS};
use xt_config::libxl::DomainConfig;
use xt_config::{DomainSpec, Value, parse};

/// Pieces that make texts which get past the first character.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{1,8}",
        "[ \t\n;,=#\\[\\]'\"\\\\+-]{1,3}",
        "'[^'\n\\\\]{0,12}'",
        "[0-9a-fx]{1,6}",
        prop::sample::select(SPEC_KEYS).prop_map(str::to_owned),
        Just(" = ".to_owned()),
        Just("\n".to_owned()),
    ]
}

/// Assignments of known keys: these reach the typed layer.
fn assignment() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "[0-9]{1,5}",
        "'[ -&(-Z^-~]{0,24}'",
        prop::collection::vec("'[ -&(-Z^-~]{0,24}'", 0..3)
            .prop_map(|v| format!("[{}]", v.join(","))),
        Just("'host,tm=0,family=6'".to_owned()),
        Just("['/a,raw,xvda', 'phy:/b,hdc:cdrom,r']".to_owned()),
        Just("['mac=00:16:3e:00:00:01,rate=1MB/s']".to_owned()),
        Just("['tag=a,path=/,security_model=none,backend=b']".to_owned()),
        Just("['connection=socket,path=/s','connection=pty']".to_owned()),
        Just("['backend-type=qemu,width=5', 'vnc=1', 'hostbus=1,hostaddr=2']".to_owned()),
        Just("['03:00.0@5,seize=1', '2f8-2ff', '5', 'fe00,1@2', '0-3']".to_owned()),
        Just("[['pnode=0','size=4','vcpus=0-1'], ['card', 'pcm, name=a', 'stream']]".to_owned()),
        Just("'nodes:0,^1'".to_owned()),
    ];
    let keys: Vec<&str> = keys::known().map(|(key, _)| key).collect();
    (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key}={value}\n"))
}

/// A value, as text.
fn value() -> impl Strategy<Value = String> {
    let string = "\\PC{0,12}|[\\x01-\\x7f]{0,12}";
    let leaf = prop_oneof![
        string.prop_map(|text| Value::String(text).to_string()),
        "[0-9][0-9a-fx]{0,5}".prop_map(|number| Value::Number(number).to_string()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,\n")))
    })
}

/// Without the part that libxl's JSON does not have.
fn written(mut config: DomainConfig) -> DomainConfig {
    for device in &mut config.usbdevs {
        device.untyped = None;
    }
    config
}

/// Runs everything there is on a text; messages are made too, for their arithmetic.
fn exercise(text: &str) {
    if let Ok(document) = parse(text, "f") {
        match DomainConfig::from_document(&document, &Host::uniform(4)) {
            Ok(checked) => {
                let json = checked.value.to_json().unwrap();
                let again = DomainConfig::from_json(&json).unwrap();
                assert_eq!(again, written(checked.value));
            }
            Err(errors) => assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
        }
    }
    match parse(text, "f") {
        Ok(document) => match DomainSpec::from_document(&document, SPEC_KEYS) {
            Ok(checked) => {
                let json = serde_json::to_string(&checked.value).unwrap();
                assert_eq!(
                    serde_json::from_str::<DomainSpec>(&json).unwrap(),
                    checked.value
                );
                assert!(checked.value.memory_mib <= checked.value.max_memory_mib);
                assert!((1..=checked.value.max_vcpus).contains(&checked.value.vcpus));
            }
            Err(errors) => assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
        },
        Err(errors) => assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(errors) = parse_bytes(&bytes, "f") {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn pieces_never_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        exercise(&pieces.concat());
    }

    #[test]
    fn assignments_never_panic(assignments in prop::collection::vec(assignment(), 0..8)) {
        exercise(&("name='a'\nkernel='k'\n".to_owned() + &assignments.concat()));
    }

    #[test]
    fn printed_documents_parse_to_the_same(
        entries in prop::collection::btree_map("[a-z][a-z0-9_]{0,8}", value(), 0..6),
    ) {
        let text: String = entries.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let document = parse(&text, "f").unwrap();
        prop_assert_eq!(document.entries().count(), entries.len());
        let printed = document.to_string();
        let again = parse(&printed, "f").unwrap();
        prop_assert_eq!(&again, &document);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn strings_survive_printing(text in "\\PC{0,20}|[\\x01-\\x7f]{0,20}") {
        let printed = format!("a = {}", Value::String(text.clone()));
        let document = parse(&printed, "f").unwrap();
        prop_assert_eq!(document.get("a").unwrap().value.text(), Some(text.as_str()));
    }
}
