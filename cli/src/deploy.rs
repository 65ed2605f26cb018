//! `dividend deploy`: the contracts on a chain of the operator's own.

use dividend_chain::{Address, Deployment, Key, Rpc};

use crate::access::{check_chain_id, deployment_file, open_sender};
use crate::args::Global;
use crate::bootstrap;
use crate::failure::Failure;
use crate::output::answer;
use crate::{runtime, settings};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("dollar").required(true).args(["token", "test_dollar"]))]
pub(crate) struct Args {
    /// The ERC-20 with 6 decimals that everything is paid in.
    #[arg(long, value_name = "ADDRESS")]
    token: Option<Address>,
    /// Deploy a test dollar too, which anyone may mint: for chains where nothing is worth anything.
    #[arg(long)]
    test_dollar: bool,
}

impl Args {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let deployment = runtime::on_this_thread(self.deploy(global))?;
        answer(global, &deployment, |deployment| {
            let more = [("token", deployment.token), ("operator", deployment.operator)];
            let addresses = deployment.contracts.named().into_iter().chain(more);
            let lines: Vec<String> =
                addresses.map(|(name, address)| format!("{name:<16} {address}")).collect();
            lines.join("\n")
        })
    }

    /// Deploys from the home's operator key, which becomes the operator. The account needs coin for gas.
    async fn deploy(self, global: &Global) -> anyhow::Result<Deployment> {
        let home = global.home()?.create()?;
        let settings = settings::of_running(global, &home)?;
        let file = deployment_file(&home, &settings.chain);
        if file.exists() {
            let message = format!("{} says where the contracts are already", file.display());
            return Err(Failure::new(message, "use them, or deploy again in a fresh --home").into());
        }
        let rpc = Rpc::connect(&settings.chain)?;
        check_chain_id(&rpc, &settings.chain).await?;
        let operator = Key::load_or_generate(&home.operator_key())?;
        let sender = open_sender(&home, &rpc, operator, &settings.chain).await?;
        bootstrap::deploy(&home, &settings, &sender, self.token).await
    }
}
