//! `dividend claim`: has the pool pay contributors what it credits them. Anybody may; the payees are paid.

use std::path::PathBuf;

use dividend_chain::Address;
use dividend_registry::ModelId;
use dividend_settlement::contributors::{Payout, Whom, claimable, pay};

use crate::access::Access;
use crate::args::Global;
use crate::output::{answer, say};
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["address", "model"]))]
pub(crate) struct Args {
    /// Pay every slot of this payee, over all models.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Address>,
    /// Pay every contributor of this model's lineage: a track, NAME@N, or a model id.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Of that model, only the contributors of this ancestor.
    #[arg(long, value_name = "ID", requires = "model")]
    node: Option<ModelId>,
    /// Key file of the account that pays the gas; the home's owner by default.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let payout = runtime::on_this_thread(self.claim(global))?;
        answer(global, &payout, text)
    }

    async fn claim(self, global: &Global) -> anyhow::Result<Payout> {
        let home = global.home()?;
        let settings = settings::of_running(global, &home)?;
        let access = Access::open(&home, &settings.chain).await?;
        let snapshot = access.snapshot().await?;
        let whom = match (self.address, self.model, self.node) {
            (Some(address), _, _) => Whom::Payee(address),
            (None, Some(model), None) => Whom::Model(snapshot.resolve(&model)?.id),
            (None, Some(model), Some(node)) => Whom::Node(snapshot.resolve(&model)?.id, node),
            (None, None, _) => anyhow::bail!("neither --address nor --model was given"),
        };
        let slots = claimable(&whom, &snapshot);
        if slots.is_empty() {
            return Ok(Payout::default());
        }
        say(format!("claiming for {} slots", slots.len()));
        let key = self.key.unwrap_or_else(|| home.owner_key());
        let sender = access.sender(&key).await?;
        Ok(pay(&sender, &access.deployment, &slots, snapshot.block().number).await?)
    }
}

fn text(payout: &Payout) -> String {
    if payout.slots.is_empty() {
        return "nothing to claim".to_owned();
    }
    let mut lines: Vec<String> = payout
        .slots
        .iter()
        .map(|slot| {
            format!(
                "{:>12} µ$  to {}  slot {} of {} in {}",
                slot.paid_units, slot.payee, slot.slot, slot.node, slot.model
            )
        })
        .collect();
    lines.push(format!("{:>12} µ$  in all, for {} gas", payout.total_units(), payout.gas_used));
    lines.join("\n")
}
