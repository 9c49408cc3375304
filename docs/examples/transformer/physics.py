"""Heat, ageing and moisture of a transformer with oil and paper: what simulate.py is made of.

Sources:
    [IEC]    IEC 60076-7:2018, Loading guide for mineral-oil-immersed power transformers: the differential equations of
             the temperatures, the constants of medium and large ONAN transformers, the relative ageing rate.
    [Emsley] A. M. Emsley, G. C. Stevens: Review of chemical indicators of degradation of cellulosic electrical paper
             insulation in oil-filled transformers. IEE Proc. Sci. Meas. Technol. 141 (1994): DP, E, A by moisture.
    [Du]     Y. Du et al.: Moisture equilibrium in transformer paper-oil systems. IEEE Electr. Insul. Mag. 15 (1999):
             the curve of Fessler et al. (1987), and the solubility of water in oil, after Oommen.
    [Buck]   A. L. Buck: New equations for computing vapor pressure. J. Appl. Meteorol. 20 (1981).
    [Chendong] X. Chendong: Monitoring paper insulation aging by measuring furfural contents in oil. 7th ISH (1991).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

Array = np.ndarray

# [IEC] medium and large power transformers, ONAN.
OIL_EXPONENT, WINDING_EXPONENT = 0.8, 1.3  # x, y
K11, K21, K22 = 0.5, 2.0, 2.0
OIL_MINUTES, WINDING_MINUTES = 210.0, 10.0  # time constants τo, τw
LOSS_RATIO = 6.0  # R: load losses at rated current by no-load losses
RATED_OIL_RISE, RATED_GRADIENT = 52.0, 26.0  # K; Δθor, and Δθhr = H·gr: at 20 °C the hot spot has 98 °C

GAS_CONSTANT = 8.314  # J/(mol K)
ACTIVATION_ENERGY = 111e3  # J/mol [Emsley]
WATER_PERCENT = (0.0, 1.0, 2.0, 4.0)  # of the paper's weight
A_PER_HOUR = (1.07e8, 3.50e8, 7.78e8, 3.47e9)  # Kraft paper in oil, at these moistures [Emsley]
DP_AT_END = 200.0
WHOLE_LIFE = 1 / DP_AT_END - 1 / 1000  # 1/DP from new to the end


def lagged(values: Array, minutes: float, step_minutes: float) -> Array:
    """The solution of τ·dy/dt = u − y for a u that is constant in each step; it starts in the steady state."""
    return pd.Series(values).ewm(alpha=1 - np.exp(-step_minutes / minutes), adjust=False).mean().to_numpy()


def temperatures(
    load: Array, ambient: Array, oil_rise: float = RATED_OIL_RISE, gradient: float = RATED_GRADIENT, step: float = 60.0
) -> tuple[Array, Array]:
    """Top-oil and hot-spot temperature in °C, by the differential equations of [IEC].

    Args:
        load: K, current by rated current, in each step.
        ambient: Air, °C.
        oil_rise: Δθor, rise of the top oil over the air at rated load, K.
        gradient: Δθhr, rise of the hot spot over the top oil at rated load, K.
        step: Minutes.
    """
    steady = oil_rise * ((1 + LOSS_RATIO * load**2) / (1 + LOSS_RATIO)) ** OIL_EXPONENT
    oil = lagged(ambient + steady, K11 * OIL_MINUTES, step)
    over_oil = gradient * load**WINDING_EXPONENT
    fast = lagged(K21 * over_oil, K22 * WINDING_MINUTES, step)
    slow = lagged((K21 - 1) * over_oil, OIL_MINUTES / K22, step)  # the oil around the winding starts to move later
    return oil, oil + fast - slow


def relative_ageing(hot_spot: Array) -> Array:
    """V = 2^((θh − 98)/6): ageing of paper that is not thermally upgraded, by that at 98 °C [IEC]."""
    return 2.0 ** ((hot_spot - 98.0) / 6.0)


def arrhenius(hot_spot: Array) -> Array:
    """exp(−E/RT), for θ in °C [Emsley]."""
    return np.exp(-ACTIVATION_ENERGY / (GAS_CONSTANT * (hot_spot + 273.15)))


def chains_broken(water: Array, boltzmann_hours: Array) -> Array:
    """The increase of 1/DP, A·exp(−E/RT)·t [Emsley]; A rises with the moisture of the paper, in % of its weight."""
    return np.exp(np.interp(water, WATER_PERCENT, np.log(A_PER_HOUR))) * boltzmann_hours


def furfural(dp: Array) -> Array:
    """2-FAL in oil, ppm: log10(2-FAL) = 1.51 − 0.0035·DP [Chendong]."""
    return 10.0 ** (1.51 - 0.0035 * dp)


def water_in_oil(water: Array, celsius: Array) -> Array:
    """Water in oil, ppm, that is in balance with paper of this moisture (% of weight) at this temperature [Du].

    Fessler: share of water in paper = 2.173e-7 · p^0.6685 · exp(4725.6/T), p in atm. Solubility in oil, ppm:
    log10 S = 7.09 − 1567/T. Pressure of saturated vapour: [Buck].
    """
    kelvin = celsius + 273.15
    pressure = (water / 100 / 2.173e-7 * np.exp(-4725.6 / kelvin)) ** (1 / 0.6685)
    saturated = 6.1121 * np.exp(17.502 * celsius / (240.97 + celsius)) / 1013.25
    return np.minimum(pressure / saturated, 1.0) * 10.0 ** (7.09 - 1567 / kelvin)
