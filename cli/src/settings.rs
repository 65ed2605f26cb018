//! The settings of a home, and the flags by which a supervisor overrides them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use dividend_config::Settings;

use crate::args::Global;
use crate::home::{self, Home};
use crate::stack::Endpoints;

/// Settings that may be given on the command line of a service; they go before the settings file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Address of the API, instead of `gateway.listen`.
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
    /// Address of the admin API of `serve`, instead of `gateway.admin_listen`.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Address of the dashboard, instead of `dashboard.listen`.
    #[arg(long, value_name = "ADDR")]
    dashboard: Option<SocketAddr>,
    /// RPC endpoint, instead of `chain.rpc_urls`.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Redis, instead of `redis.url`.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl Overrides {
    /// The same settings with what the command line says.
    pub(crate) fn apply(self, mut settings: Settings) -> Settings {
        let gateway = &mut settings.gateway;
        gateway.listen = self.api.unwrap_or(gateway.listen);
        gateway.admin_listen = self.admin.unwrap_or(gateway.admin_listen);
        settings.dashboard.listen = self.dashboard.unwrap_or(settings.dashboard.listen);
        settings.chain.rpc_urls = self.rpc.map_or(settings.chain.rpc_urls, |url| vec![url]);
        settings.redis.url = self.redis.or(settings.redis.url);
        settings
    }
}

/// The settings of the home, or those of the file that the command line names. A home without a file has defaults; a
/// relative path in the settings means a path in the home.
pub(crate) fn load(global: &Global, home: &Home) -> anyhow::Result<Settings> {
    let in_home = home.settings();
    let settings = match global.settings_file() {
        Some(path) => read(path)?,
        None if in_home.exists() => read(&in_home)?,
        None => Settings::default(),
    };
    Ok(settings)
}

/// The settings with the endpoints of the stack that runs in this home, if one does: what a command next to it needs.
pub(crate) fn of_running(global: &Global, home: &Home) -> anyhow::Result<Settings> {
    let settings = load(global, home)?;
    Ok(match home::read_json::<Endpoints>(&home.endpoints())? {
        None => settings,
        Some(running) => {
            Overrides { rpc: Some(running.rpc), redis: Some(running.redis), ..Overrides::default() }
                .apply(settings)
        }
    })
}

fn read(path: &Path) -> anyhow::Result<Settings> {
    Settings::load(path).with_context(|| format!("settings {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = Settings::parse("[redis]\nurl = \"redis://a:1\"\n").unwrap();
        let kept = Overrides::default().apply(file.clone());
        assert_eq!(kept, file);
        let overrides = Overrides {
            api: Some(([127, 0, 0, 1], 9).into()),
            rpc: Some("http://b:2".into()),
            redis: Some("redis://c:3".into()),
            ..Overrides::default()
        };
        let settings = overrides.apply(file);
        assert_eq!(settings.gateway.listen.port(), 9);
        assert_eq!(settings.chain.rpc_urls, ["http://b:2"]);
        assert_eq!(settings.redis.url.as_deref(), Some("redis://c:3"));
    }
}
