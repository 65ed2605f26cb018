//! Seals made by hand, as a meter would write them.

use alloy::primitives::{B256, Bytes, keccak256};
use dividend_meter::Seal;
use dividend_meter::seal::{ModelSeal, PayerKind, PayerTotals, VoucherSeal};
use dividend_settlement::LaneTotals;

use super::{Home, Model, Payer, World, meter_deployment};

/// What one window holds.
#[derive(Default)]
pub struct Window {
    prepaid: Vec<(Model, u128)>,
    channel: Vec<(B256, Model, u128)>,
    vouchers: Vec<VoucherSeal>,
}

impl Window {
    /// Calls of an API key.
    pub fn prepaid(mut self, model: Model, charge_pico: u128) -> Self {
        self.prepaid.push((model, charge_pico));
        self
    }

    /// Calls of a channel, under a voucher up to `max_pico`.
    pub fn channel(
        mut self,
        world: &World,
        payer: &Payer,
        model: Model,
        charge_pico: u128,
        max_pico: u128,
    ) -> Self {
        let (voucher, signature) = world.voucher(payer, model, max_pico);
        self.channel.push((payer.channel, model, charge_pico));
        self.vouchers.push(VoucherSeal {
            channel: payer.channel,
            lane: model.id,
            max_cumulative_pico: max_pico,
            expiry: voucher.expiry,
            signature: Bytes::copy_from_slice(&signature),
            cumulative_pico: charge_pico,
        });
        self
    }

    /// Spoils the last voucher's signature.
    pub fn forged(mut self) -> Self {
        let voucher = self.vouchers.last_mut().expect("there is a voucher to spoil");
        voucher.signature = Bytes::from(vec![0x1b; 65]);
        self
    }

    /// Adds the window to metered totals.
    pub fn count(&self, totals: &mut LaneTotals) {
        for (model, pico) in &self.prepaid {
            totals.add(&dividend_meter::Payer::Key([7; 32]), model.id.into(), *pico).unwrap();
        }
        for (channel, model, pico) in &self.channel {
            totals.add(&dividend_meter::Payer::Channel(*channel), model.id.into(), *pico).unwrap();
        }
    }

    /// Writes the seal of window `number` of journal `journal`.
    pub fn seal(&self, world: &World, home: &Home, journal: B256, number: u64) {
        let mut models: Vec<Model> = Vec::new();
        let all = self
            .prepaid
            .iter()
            .map(|(model, _)| *model)
            .chain(self.channel.iter().map(|(_, model, _)| *model));
        for model in all {
            if !models.iter().any(|known| known.id == model.id) {
                models.push(model);
            }
        }
        models.sort_by_key(|model| model.id);
        let mut seal = Seal {
            journal,
            window: number,
            first_offset: number * 1_000,
            last_offset: (number + 1) * 1_000,
            opened_at_ms: number,
            sealed_at_ms: number + 1,
            deployment: meter_deployment(&world.deployment),
            models: models.iter().map(|model| self.model_seal(*model, number)).collect(),
            totals: self.totals(),
            vouchers: self.vouchers.clone(),
            digest: B256::ZERO,
        };
        seal.digest = seal.compute_digest();
        let path = home.paths.seals.join(format!("{number}.json"));
        std::fs::write(path, serde_json::to_vec_pretty(&seal).unwrap()).unwrap();
    }

    fn model_seal(&self, model: Model, number: u64) -> ModelSeal {
        let prepaid_sum_pico =
            self.prepaid.iter().filter(|(of, _)| of.id == model.id).map(|(_, pico)| pico).sum();
        let channel_sum_pico =
            self.channel.iter().filter(|(_, of, _)| of.id == model.id).map(|(_, _, pico)| pico).sum();
        let root = |kind: &str, sum: u128| match sum {
            0 => B256::ZERO,
            _ => keccak256(format!("{kind}/{number}/{}", model.id)),
        };
        ModelSeal {
            model: model.id.into(),
            prepaid_root: root("prepaid", prepaid_sum_pico),
            prepaid_sum_pico,
            channel_root: root("channel", channel_sum_pico),
            channel_sum_pico,
            calls: 1,
            prompt_tokens: 1,
            completion_tokens: 1,
        }
    }

    fn totals(&self) -> Vec<PayerTotals> {
        let row = |payer_kind, payer, model: Model, charge_pico| PayerTotals {
            payer_kind,
            payer,
            model: model.id.into(),
            calls: 1,
            prompt_tokens: 1,
            completion_tokens: 1,
            charge_pico,
        };
        let keys =
            self.prepaid.iter().map(|(model, pico)| row(PayerKind::Key, B256::repeat_byte(7), *model, *pico));
        let channels = self
            .channel
            .iter()
            .map(|(channel, model, pico)| row(PayerKind::Channel, *channel, *model, *pico));
        keys.chain(channels).collect()
    }
}
