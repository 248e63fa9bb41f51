-- How many users came each year, and how many of them rated in a later month?
with cohorts as (

    select
        edition,
        cohort_month,
        max(cohort_users) as newcomers,
        max(active_users) filter (where months_since = 1) as back_next_month
    from {{ ref('fct_retention') }}
    where edition != 'streaming'
    group by edition, cohort_month

)

select
    year(cohort_month) as came_in,
    sum(newcomers) as newcomers,
    coalesce(sum(back_next_month), 0) as back_next_month,
    round(coalesce(sum(back_next_month), 0) / sum(newcomers), 4) as share
from cohorts
group by came_in
order by came_in
