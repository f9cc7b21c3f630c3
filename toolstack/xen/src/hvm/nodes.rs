//! Xenstore nodes of an HVM domain beyond those of every domain.

use pv_xenbus::XenbusState::Initialising;
use uuid::Uuid;
use xen_sys::DomId;
use xt_builder::hvm::Place;
use xt_config::HvmSpec;
use xt_devices::{DeviceNodes, DeviceRef};
use xt_xenstore::client::{Client, ClientError};
use xt_xenstore::perms::Perm;

use super::Plan;
use super::build::Tables;
use super::plan::yes;
use super::qmp::Told;
use crate::life::PAGE_KIB;
use crate::nodes::{DEVICE_MODELS, domain, remove, vm};

/// Where a domain's device model says how it is.
pub(crate) fn device_model(domid: DomId) -> String {
    format!("{DEVICE_MODELS}/{}", domid.0)
}

/// What the firmware and the device model read, written in one transaction.
pub(crate) fn describe(
    client: &mut Client,
    domid: DomId,
    uuid: Uuid,
    hvm: &HvmSpec,
    plan: &Plan,
    tables: &Tables,
) -> Result<(), ClientError> {
    let values = values(hvm, plan, tables);
    client.transaction(|client| {
        let (dom, vm) = (domain(domid), vm(uuid));
        for name in ["feature-s3", "feature-s4"] {
            let path = format!("{dom}/control/{name}");
            client.write(&path, "")?;
            client.set_perms(&path, &[Perm::none(domid)])?;
        }
        for (name, value) in &values {
            client.write(&format!("{dom}/{name}"), value)?;
        }
        client.write(&format!("{vm}/rtc/timeoffset"), "")?;
        client.write(&format!("{vm}/image/ostype"), "hvm")?;
        remove(client, &device_model(domid))?;
        client.mkdir(&device_model(domid))
    })
}

fn values(hvm: &HvmSpec, plan: &Plan, tables: &Tables) -> Vec<(String, String)> {
    let info = &hvm.info;
    let digit = |value: bool| u8::from(value).to_string();
    let mut values: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| values.push((name.to_owned(), value));
    put("hvmloader/bios", plan.bios.to_owned());
    put("hvmloader/allow-memory-relocate", "0".to_owned());
    for (name, place) in [("acpi", tables.acpi), ("smbios", tables.smbios)] {
        if let Some((address, length)) = place as Option<Place> {
            put(
                &format!("hvmloader/{name}/address"),
                format!("{address:#x}"),
            );
            put(&format!("hvmloader/{name}/length"), format!("{length:#x}"));
        }
    }
    let acpi = yes(hvm.acpi, true);
    put("platform/acpi", digit(acpi));
    put("platform/acpi_s3", digit(yes(info.acpi_s3, true)));
    put("platform/acpi_s4", digit(yes(info.acpi_s4, true)));
    put(
        "platform/acpi_laptop_slate",
        digit(yes(info.acpi_laptop_slate, false)),
    );
    if let Some(hole) = plan.hole {
        put("platform/mmio_hole_size", hole.to_string());
    }
    if info.ms_vm_genid.0 != [0; 16] {
        put("platform/generation-id", generation_id(&info.ms_vm_genid.0));
    }
    put("platform/device-model", "qemu_xen".to_owned());
    put("memory/target", (plan.target_pages * PAGE_KIB).to_string());
    put("memory/videoram", plan.video_kib.to_string());
    values
}

/// Two numbers of 64 bits, as hvmloader takes them.
fn generation_id(id: &[u8; 16]) -> String {
    let (low, high) = id.split_at(8);
    let number = |bytes: &[u8]| {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    format!("{:x}:{:x}", number(low), number(high))
}

/// The paravirtual keyboard and mouse, which the device model serves.
pub(crate) fn keyboard(domid: DomId) -> DeviceNodes {
    let state = Initialising.as_str().to_owned();
    DeviceNodes {
        device: keyboard_ref(domid),
        backend: DomId(0),
        backend_kind: "vkbd",
        front: vec![("backend-id", "0".to_owned()), ("state", state.clone())],
        front_readonly: Vec::new(),
        back: vec![
            ("frontend-id", domid.0.to_string()),
            ("online", "1".to_owned()),
            ("state", state),
        ],
    }
}

/// Its name.
pub(crate) fn keyboard_ref(domid: DomId) -> DeviceRef {
    DeviceRef {
        domid,
        kind: "vkbd",
        devid: 0,
    }
}

/// What a device model that runs has told.
pub(crate) fn running(
    client: &mut Client,
    domid: DomId,
    pid: u32,
    told: &Told,
) -> Result<(), ClientError> {
    client.transaction(|client| {
        let dom = domain(domid);
        client.write(&format!("{dom}/image/device-model-pid"), pid.to_string())?;
        // A confined one cannot say so itself.
        client.write(&format!("{}/state", device_model(domid)), "running")?;
        for (place, tty) in &told.serial {
            client.write(&format!("{dom}/serial/{place}/tty"), tty)?;
        }
        if let Some((address, port)) = &told.vnc {
            client.write(&format!("{dom}/console/vnc-listen"), address)?;
            client.write(&format!("{dom}/console/vnc-port"), port)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_id_is_two_numbers() {
        let mut id = [0; 16];
        id[0] = 0x12;
        id[15] = 0xab;
        assert_eq!(generation_id(&id), "12:ab00000000000000");
    }
}
