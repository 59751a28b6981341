//! The memory of the machine, and of the control group that this program is in.

/// The total and the available memory of the machine, and of the control group that this program is in.
fn limits() -> impl Iterator<Item = (u64, u64)> {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = machine.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        Some(kib << 10)
    };
    let of_machine = field("MemTotal:").zip(field("MemAvailable:"));
    let of_group = ["memory.max", "memory.current"].map(|file| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    // The kernel drops cached file pages when a program needs the memory.
    let stat = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    let files = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    let files = files.and_then(|number| number.parse::<u64>().ok());
    let of_group = of_group[0].zip(of_group[1]).map(|(total, used)| {
        let needed = used.saturating_sub(files.unwrap_or(0));
        (total, total.saturating_sub(needed))
    });
    of_machine.into_iter().chain(of_group)
}

/// Memory is short when less than this fraction (one in so many parts) is available.
const SHORT_PARTS: u64 = 8;

/// Has the machine or this program's control group little memory left?
pub(crate) fn is_short() -> bool {
    limits().any(|(total, available)| available < total / SHORT_PARTS)
}

/// Three quarters of the memory of the machine or of the control group, whichever is smaller.
pub(super) fn three_quarters() -> u64 {
    limits()
        .map(|(total, _)| total / 4 * 3)
        .min()
        .unwrap_or(u64::MAX)
}
