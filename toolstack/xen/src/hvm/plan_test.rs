use xt_config::{HVM_KEYS, keys};

use super::*;

fn plan(text: &str) -> Result<Plan> {
    let text = format!("name = 'g'\ntype = 'hvm'\nbios_path_override = '/bios'\n{text}\n");
    let document = xt_config::parse(&text, "g.cfg").unwrap();
    let keys = [keys::SPEC_KEYS, HVM_KEYS].concat();
    let spec = DomainSpec::from_document(&document, &keys).unwrap().value;
    Plan::new(&spec, spec.hvm.as_deref().unwrap())
}

fn refusal(text: &str) -> String {
    plan(text).unwrap_err().to_string()
}

#[test]
fn memory_around_the_hole() {
    let small = plan("memory = 256").unwrap();
    assert_eq!((small.video_kib, small.pages), (8 << 10, 248 * MIB));
    assert_eq!((small.low_end, small.high_end), (248 * MIB, 0));
    assert_eq!(small.ranges(), [0..0xa0, 0xc0..248 * MIB]);
    let large = plan("memory = 5120\nvga = 'none'").unwrap();
    assert_eq!((large.low_end, large.high_end), (0xf_0000, 0x15_0000));
    assert_eq!(large.ram_mib(), 5120);
    let hole = plan("memory = 5120\nvga = 'none'\nmmio_hole = 2048").unwrap();
    assert_eq!((hole.low_end, hole.high_end), (0x8_0000, 0x1c_0000));
    assert_eq!(hole.hole, Some(2 << 30));
    // The usual size, and no more, needs nobody told.
    assert_eq!(plan("memory = 256\nmmio_hole = 256").unwrap().hole, None);
}

#[test]
fn less_to_begin_with() {
    let plan = plan("memory = 192\nmaxmem = 384\nvga = 'stdvga'").unwrap();
    assert_eq!((plan.pages, plan.target_pages), (368 * MIB, 176 * MIB));
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(refusal("memory = 4").contains("too few for an HVM domain"));
    assert!(refusal("memory = 256\nvcpus = 129").contains("128 virtual CPUs"));
    assert!(refusal("memory = 256\nvga = 'qxl'").contains("SPICE"));
    assert!(refusal("memory = 256\nbios = 'rombios'").contains("ROMBIOS"));
    assert!(refusal("memory = 256\nvideoram = 4").contains("too few for this graphics card"));
    assert!(refusal("memory = 256\nviridian = ['freq']").contains("need base"));
}

#[test]
fn viridian_bits() {
    let bits = |text| {
        plan(&format!("memory = 256\nviridian = {text}"))
            .unwrap()
            .viridian
    };
    assert_eq!(bits("0"), 0);
    // base, time_ref_count, apic_assist, crash_ctl, no_vp_limit, cpu_hotplug; frequencies are there.
    assert_eq!(bits("1"), 0b1_1000_0110_0101);
    assert_eq!(bits("['base']"), 0b11, "without frequencies");
    assert_eq!(bits("['defaults', '!cpu_hotplug']"), 0b1000_0110_0101);
    assert_eq!(
        bits("['all']").count_ones() as usize,
        Viridian::NAMES.len() - 1
    );
}
