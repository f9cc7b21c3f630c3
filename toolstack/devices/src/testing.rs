//! A server of the tests' own, and domains to give devices to.

use std::time::Duration;

use xen_sys::DomId;
use xt_config::DomainType;
use xt_xenstore::client::Client;
use xt_xenstore::server::Server;
use xt_xenstore::service::{self, Handle};
use xt_xenstore::unix::UnixServer;

use crate::Guest;

/// Longer than anything here takes; reached only by a failure.
pub const LONG: Duration = Duration::from_secs(60);

/// A PV guest.
pub const GUEST: Guest = Guest {
    domid: DomId(2),
    kind: DomainType::Pv,
};

/// A server, and a client as privileged as domain 0.
pub struct Host {
    pub service: Handle,
    pub client: Client,
}

impl Host {
    pub fn new() -> Self {
        let service = service::spawn(Server::default(), UnixServer::unbound()).unwrap();
        let made = service.call(|service| {
            service.server.update(|store| {
                xt_xenstore::domain::introduce_host(store).unwrap();
            });
            service.local_client()
        });
        let client = made.unwrap().unwrap();
        let mut host = Self { service, client };
        for domid in [2, 3] {
            let home = format!("/local/domain/{domid}");
            host.client
                .write(&format!("{home}/name"), format!("guest{domid}"))
                .unwrap();
            let read = [
                xt_xenstore::perms::Perm::none(DomId(0)),
                xt_xenstore::perms::Perm::read(DomId(domid)),
            ];
            for dir in ["", "/device"] {
                let path = format!("{home}{dir}");
                host.client.write(&path, "").unwrap();
                host.client.set_perms(&path, &read).unwrap();
            }
        }
        host
    }

    pub fn another_client(&self) -> Client {
        self.service
            .call(|service| service.local_client())
            .unwrap()
            .unwrap()
    }

    pub fn read(&mut self, path: &str) -> Option<String> {
        self.client.read_text(path).unwrap()
    }

    /// All nodes below a directory as `xenstore-ls -fp` shows them, in its order.
    pub fn listing(&mut self, path: &str) -> String {
        let mut text = String::new();
        self.list_into(path, &mut text);
        text
    }

    fn list_into(&mut self, path: &str, text: &mut String) {
        let value = self.client.read_text(path).unwrap().unwrap();
        let perms = self.client.perms(path).unwrap();
        let perms: Vec<String> = perms.entries().map(ToString::to_string).collect();
        text.push_str(&format!("{path} = {value:?}   ({})\n", perms.join(",")));
        for name in self.client.directory(path).unwrap() {
            self.list_into(&format!("{path}/{name}"), text);
        }
    }
}
