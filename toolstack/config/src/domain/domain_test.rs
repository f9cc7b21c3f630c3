use super::*;
use crate::document::parse;

#[test]
fn smallest() {
    let document = parse("name='a'\nkernel='/k'", "f").unwrap();
    let config = DomainConfig::from_document(&document, &Host::uniform(2)).unwrap();
    assert_eq!(config.value.c_info.kind, Type::Pv);
}
