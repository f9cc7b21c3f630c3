//! What a guest shows and is typed into: `vfb`, `vkb`, and the `vnc` and `sdl` keys of PV guests.

use crate::diagnostic::SpecError;
use crate::domain::device::devid;
use crate::domain::hvm::{sdl, vnc};
use crate::domain::pairs::{Pair, missing, pairs};
use crate::libxl::{DomainConfig, Sdl, Type, Vfb, Vkb, VkbBackend, Vnc};
use crate::reader::Reader;

/// Each frame buffer has a keyboard; those of `vkb` come after them.
pub(super) fn read(reader: &mut Reader<'_>, config: &mut DomainConfig) {
    config.vfbs = reader.list("vfb", vfb);
    let plain_pv = config.c_info.kind == Type::Pv && config.vfbs.is_empty();
    if plain_pv && reader.defbool("vnc").unwrap_or(false) {
        config.vfbs.push(Vfb {
            vnc: vnc(reader),
            sdl: sdl(reader),
            keymap: reader.owned("keymap"),
            ..Vfb::default()
        });
    }
    config.vkbs = vec![Vkb::default(); config.vfbs.len()];
    config.vkbs.extend(reader.list("vkb", vkb));
    for (place, vfb) in config.vfbs.iter_mut().enumerate() {
        vfb.devid = devid(place);
    }
    for (place, vkb) in config.vkbs.iter_mut().enumerate() {
        vkb.devid = devid(place);
    }
}

const VFB_KEYS: &[&str] = &[
    "vnc",
    "vnclisten",
    "vncpasswd",
    "vncdisplay",
    "vncunused",
    "keymap",
    "sdl",
    "opengl",
    "display",
    "xauthority",
    "type",
];

fn vfb(text: &str) -> Result<Vfb, SpecError> {
    let (mut vnc, mut sdl, mut keymap) = (Vnc::default(), Sdl::default(), None);
    for pair in pairs(text)? {
        match pair.key {
            "vnc" => vnc.enable = pair.flag()?.into(),
            "vnclisten" => vnc.listen = pair.owned(),
            "vncpasswd" => vnc.passwd = pair.owned(),
            "vncdisplay" => vnc.display = pair.number()?,
            "vncunused" => vnc.findunused = pair.flag()?.into(),
            "keymap" => keymap = pair.owned(),
            "sdl" => sdl.enable = pair.flag()?.into(),
            "opengl" => sdl.opengl = pair.flag()?.into(),
            "display" => sdl.display = pair.owned(),
            "xauthority" => sdl.xauthority = pair.owned(),
            // xend's way to say vnc=1 or sdl=1, which xl passes over.
            "type" => {
                pair.named(&[("vnc", ()), ("sdl", ())])?;
            }
            _ => return Err(pair.unknown("A vfb", VFB_KEYS)),
        }
    }
    Ok(Vfb {
        vnc,
        sdl,
        keymap,
        ..Vfb::default()
    })
}

const VKB_KEYS: &[&str] = &[
    "backend",
    "backend-type",
    "unique-id",
    "feature-disable-keyboard",
    "feature-disable-pointer",
    "feature-abs-pointer",
    "feature-raw-pointer",
    "feature-multi-touch",
    "multi-touch-width",
    "multi-touch-height",
    "multi-touch-num-contacts",
    "width",
    "height",
];

fn vkb(text: &str) -> Result<Vkb, SpecError> {
    let mut vkb = Vkb::default();
    for pair in pairs(text)? {
        vkb_parameter(&mut vkb, &pair)?;
    }
    if vkb.backend_type == VkbBackend::Unknown {
        return Err(missing(text, "The vkb", "backend-type"));
    }
    let touch = vkb.multi_touch_width | vkb.multi_touch_height | vkb.multi_touch_num_contacts;
    if touch == 0 && vkb.feature_multi_touch {
        return Err(missing(text, "The vkb with touch", "multi-touch-width"));
    }
    vkb.feature_multi_touch = touch != 0;
    Ok(vkb)
}

fn vkb_parameter(vkb: &mut Vkb, pair: &Pair<'_>) -> Result<(), SpecError> {
    match pair.key {
        "backend" => vkb.backend_domname = pair.owned(),
        "backend-type" => {
            let names = VkbBackend::NAMES.get(1..).unwrap_or_default();
            vkb.backend_type = pair.libxl_name(names)?;
        }
        "unique-id" => vkb.unique_id = pair.owned(),
        "feature-disable-keyboard" => vkb.feature_disable_keyboard = pair.flag()?,
        "feature-disable-pointer" => vkb.feature_disable_pointer = pair.flag()?,
        "feature-abs-pointer" => vkb.feature_abs_pointer = pair.flag()?,
        "feature-raw-pointer" => vkb.feature_raw_pointer = pair.flag()?,
        "feature-multi-touch" => vkb.feature_multi_touch = pair.flag()?,
        "multi-touch-width" => vkb.multi_touch_width = pair.number()?,
        "multi-touch-height" => vkb.multi_touch_height = pair.number()?,
        "multi-touch-num-contacts" => vkb.multi_touch_num_contacts = pair.number()?,
        "width" => vkb.width = pair.number()?,
        "height" => vkb.height = pair.number()?,
        _ => return Err(pair.unknown("A vkb", VKB_KEYS)),
    }
    Ok(())
}
