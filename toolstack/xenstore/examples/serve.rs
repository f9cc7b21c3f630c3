//! Serves an empty xenstore on a UNIX socket until standard input ends:
//! `cargo run -p xt-xenstore --example serve -- /tmp/xs.sock`, then
//! `XENSTORED_PATH=/tmp/xs.sock xenstore-ls`.

use std::error::Error;
use std::path::Path;

use xt_xenstore::domain::introduce_host;
use xt_xenstore::server::Server;
use xt_xenstore::service::spawn;
use xt_xenstore::unix::UnixServer;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("Give the socket's path.")?;
    let mut server = Server::default();
    server.update(introduce_host)?;
    let service = spawn(server, UnixServer::bind(Path::new(&path))?)?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(service.stop()?)
}
