//! `sched-credit2`

use serde_json::json;
use xt_host::{Credit2Change, DomId, Host};

use super::domid;
use crate::cli::SchedArgs;
use crate::output::{credit2_domains, credit2_heading, credit2_pool, print, print_json};
use crate::status::{Failure, Status};

/// `sched-credit2`
pub fn credit2(host: &dyn Host, arguments: &SchedArgs) -> Result<Status, Failure> {
    match &arguments.domain {
        Some(domain) => of_domain(host, domain, arguments),
        None => of_pools(host, arguments),
    }
}

fn of_domain(host: &dyn Host, domain: &str, arguments: &SchedArgs) -> Result<Status, Failure> {
    let domid = domid(host, domain)?;
    let (weight, cap) = (arguments.weight, arguments.cap);
    if weight.is_some() || cap.is_some() {
        host.credit2_set(domid, Credit2Change { weight, cap })?;
        return Ok(Status::Success);
    }
    let settings = host.credit2(domid)?;
    if arguments.json {
        return print_json(&settings);
    }
    let name = host.domain(domid)?.name;
    print(&(credit2_heading() + &credit2_domains(&[(name, settings)])))
}

fn of_pools(host: &dyn Host, arguments: &SchedArgs) -> Result<Status, Failure> {
    if let Some(us) = arguments.ratelimit_us {
        let pool = arguments.cpupool.as_deref().unwrap_or("Pool-0");
        host.credit2_set_pool(pool, us)?;
        return Ok(Status::Success);
    }
    let wanted = |name: &str| arguments.cpupool.as_deref().is_none_or(|pool| pool == name);
    let (mut text, mut all) = (String::new(), Vec::new());
    for pool in host
        .credit2_pools()?
        .into_iter()
        .filter(|pool| wanted(&pool.pool))
    {
        text.push_str(&credit2_pool(&pool));
        let mut members = Vec::new();
        if !arguments.schedparam {
            for domain in host.list()? {
                if domain.cpupool_name == pool.pool {
                    members.push((domain.name, host.credit2(DomId(domain.domid))?));
                }
            }
            text.push_str(&credit2_heading());
            text.push_str(&credit2_domains(&members));
        }
        let members: Vec<_> = members
            .into_iter()
            .map(|(name, of)| json!({"name": name, "domid": of.domid, "weight": of.weight, "cap": of.cap}))
            .collect();
        all.push(
            json!({"cpupool": pool.pool, "ratelimit_us": pool.ratelimit_us, "domains": members}),
        );
    }
    match arguments.json {
        true => print_json(&all),
        false => print(&text),
    }
}
