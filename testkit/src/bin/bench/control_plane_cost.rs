//! What the API server and etcd have spent, from their own metrics.

use std::ops::Sub;

use http::Request;
use kube::Client;
use testkit::control_plane::ControlPlane;
use testkit::{Error, doing};

/// What was spent since both started, or between two samples.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// How many times the API server read Secrets and resources from etcd.
    pub etcd_reads: f64,
    /// Seconds of processor time of both.
    pub cpu: f64,
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { etcd_reads: self.etcd_reads - before.etcd_reads, cpu: self.cpu - before.cpu }
    }
}

/// Reads what was spent so far.
pub async fn sample(api_server: &Client, plane: &ControlPlane) -> Result<Cost, Error> {
    let request = Request::get("/metrics").body(Vec::new()).map_err(doing("making a request"))?;
    let of_api_server =
        api_server.request_text(request).await.map_err(doing("reading the metrics of the API server"))?;
    let of_etcd = plane.etcd_metrics().await?;
    let cpu = [&of_api_server, &of_etcd].map(|text| sum(text, |line| line.starts_with("process_cpu_seconds_total ")));
    let is_read = |line: &str| {
        let has = |label: &str| line.contains(label);
        line.starts_with("etcd_request_duration_seconds_count{")
            && (has(r#"operation="get"#) || has(r#"operation="list"#))
            && (has(r#"resource="secrets""#) || has(r#"resource="arcgisappcredentials""#))
    };
    Ok(Cost { etcd_reads: sum(&of_api_server, is_read), cpu: cpu.iter().sum() })
}

/// Returns the sum of these series.
fn sum(metrics: &str, which: impl Fn(&str) -> bool) -> f64 {
    metrics.lines().filter(|line| which(line)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
