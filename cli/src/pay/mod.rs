//! `dividend pay`: a caller who pays by a channel of his own. `open` makes the channel, `proxy` signs for each call so that
//! an unchanged OpenAI client can use it, `close` and `withdraw` take the rest back.

mod book;
mod channel;
pub(crate) mod money;
mod payer;
mod proxy;
mod refusal;
mod status;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;

use dividend_chain::{B256, Key};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::access::Access;
use crate::args::Global;
use crate::failure::{Failure, OrFail};
use crate::output::{answer, say};
use crate::stop::StopSignals;
use crate::{runtime, settings};
use book::Caps;
use money::Dollars;
use payer::Payer;
use store::Store;

/// Where clients find the proxy unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8402";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Open a channel with a deposit.
    Open(Open),
    /// Run the local proxy that signs for each call.
    Proxy(Proxy),
    /// Show what was deposited, promised, served and redeemed.
    Status(Which),
    /// Ask for the rest of the deposit back; it can be taken after the contract's delay.
    Close(Close),
    /// Take the deposit that was asked back.
    Withdraw(Withdraw),
}

#[derive(Debug, clap::Args)]
struct Open {
    /// Key file of the account that owns the deposit.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Dollars to deposit.
    #[arg(long, value_name = "$")]
    deposit: Dollars,
    /// Key file of the hot key that signs vouchers; a new one by default.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
}

/// The channel that is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Id of the channel; the home's only one by default.
    #[arg(long, value_name = "ID")]
    channel: Option<B256>,
}

#[derive(Debug, clap::Args)]
struct Proxy {
    #[command(flatten)]
    which: Which,
    /// Loopback address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// The gateway's base URL; that of the home's running stack by default.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Dollars that may be promised in all, over the life of the channel.
    #[arg(long, value_name = "$")]
    cap: Dollars,
    /// Dollars that one call may cost; as much as the cap by default.
    #[arg(long, value_name = "$")]
    per_call_cap: Option<Dollars>,
}

#[derive(Debug, clap::Args)]
struct Close {
    #[command(flatten)]
    which: Which,
    /// Key file of the account that owns the deposit.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Dollars to ask back; all that was not redeemed by default.
    #[arg(long, value_name = "$")]
    amount: Option<Dollars>,
}

#[derive(Debug, clap::Args)]
struct Withdraw {
    #[command(flatten)]
    which: Which,
    /// Key file of the account that owns the deposit.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self.command {
            Command::Open(open) => open.run(global),
            Command::Proxy(proxy) => proxy.run(global),
            Command::Status(which) => status::run(global, &which),
            Command::Close(close) => close.run(global),
            Command::Withdraw(withdraw) => withdraw.run(global),
        }
    }
}

#[derive(Serialize)]
struct Opened {
    channel: B256,
    payer: String,
    signer: String,
    #[serde(serialize_with = "status::decimal")]
    deposit_units: u128,
}

impl Open {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let signer = match &self.signer {
            Some(path) => Key::load(path)?,
            None => Key::generate(),
        };
        let terms = runtime::on_this_thread(async {
            let access = Access::open(&home, &settings.chain).await?;
            let sender = access.sender(&self.key).await?;
            channel::open(&access, &sender, &store(global)?, &signer, self.deposit).await
        })?;
        let opened = Opened {
            channel: terms.channel,
            payer: terms.payer.to_string(),
            signer: terms.signer.to_string(),
            deposit_units: self.deposit.units,
        };
        answer(global, &opened, |opened| {
            format!(
                "channel {}\nnext: dividend pay proxy --channel {} --cap {}",
                opened.channel, opened.channel, self.deposit
            )
        })
    }
}

#[derive(Serialize)]
struct Listening {
    /// What an OpenAI client takes as its base URL.
    base_url: String,
    channel: B256,
    upstream: String,
}

impl Proxy {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        proxy::check_listen(self.listen)
            .map_err(|problem| Failure::usage(problem, "the proxy spends money"))?;
        let home = global.home()?;
        runtime::log(&settings::load(global, &home)?.log)?;
        let upstream = match &self.upstream {
            Some(url) => url.clone(),
            None => crate::stack::Endpoints::of(&home)?.api,
        };
        let store = store(global)?;
        let channel = self.which.resolve(&store)?;
        let terms = store.terms(channel)?;
        let (held, key, book) = store.hold(channel)?;
        if key.address() != terms.signer {
            let message = format!(
                "the key kept for channel {channel} is of {}, not of {}",
                key.address(),
                terms.signer
            );
            return Err(Failure::new(message, "restore the channel's folder, or open a new channel").into());
        }
        let call_cap = self.per_call_cap.unwrap_or(self.cap);
        let caps = Caps { total_pico: self.cap.pico(), call_pico: call_cap.pico() };
        let payer = Payer::new(terms, key, caps, book, held.book_path(), now_s);
        let proxy = proxy::Proxy::new(payer, &upstream)?;
        runtime::on_all_cores(async {
            let mut stop = StopSignals::listen()?;
            let remedy = "stop what listens there, or choose another with --listen";
            let listener = TcpListener::bind(self.listen)
                .await
                .or_fail(format!("cannot listen at {}", self.listen), remedy)?;
            let base_url = format!("http://{}/v1", listener.local_addr()?);
            answer(global, &Listening { base_url, channel, upstream }, |l| {
                format!("base URL for clients: {}", l.base_url)
            })?;
            proxy.serve(listener, async move { stop.received().await }).await?;
            say("stopped");
            anyhow::Ok(())
        })
    }
}

impl Close {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let terms = self.which.terms(global)?;
        as_payer(global, &self.key, async |access, sender| {
            let channel = channel::request_withdrawal(access, sender, &terms, self.amount, now_s()).await?;
            let taken = Dollars { units: channel.withdrawal };
            say(format_args!(
                "{taken} can be taken from {} (unix seconds) on: dividend pay withdraw",
                channel.withdrawableAt
            ));
            Ok(())
        })?;
        status::run(global, &self.which)
    }
}

impl Withdraw {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let terms = self.which.terms(global)?;
        as_payer(global, &self.key, async |access, sender| {
            let mined = channel::withdraw(access, sender, &terms).await?;
            say(format_args!("paid in transaction {}", mined.transaction));
            Ok(())
        })?;
        status::run(global, &self.which)
    }
}

impl Which {
    fn terms(&self, global: &Global) -> anyhow::Result<store::Terms> {
        let store = store(global)?;
        store.terms(self.resolve(&store)?)
    }

    fn resolve(&self, store: &Store) -> anyhow::Result<B256> {
        if let Some(channel) = self.channel {
            return Ok(channel);
        }
        match store.channels()?.as_slice() {
            [only] => Ok(*only),
            [] => Err(Failure::usage("this home keeps no channel", "open one: dividend pay open").into()),
            several => {
                let ids: Vec<String> = several.iter().map(B256::to_string).collect();
                let message = format!("this home keeps several channels: {}", ids.join(", "));
                Err(Failure::usage(message, "name one with --channel").into())
            }
        }
    }
}

/// The channels of the home.
fn store(global: &Global) -> anyhow::Result<Store> {
    Ok(Store::new(global.home()?.path("pay")))
}

/// Does something on the chain as the owner of a deposit.
fn as_payer(
    global: &Global,
    key: &std::path::Path,
    work: impl AsyncFnOnce(&Access, &dividend_chain::Sender) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let home = global.home()?;
    let settings = settings::of_running(global, &home)?;
    runtime::on_this_thread(async {
        let access = Access::open(&home, &settings.chain).await?;
        let sender = access.sender(key).await?;
        work(&access, &sender).await
    })
}

/// Unix seconds by the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the command reads the clock; the rest is told"
)]
fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
