-- What share of the newcomers rates again one, two, … twelve months later?
with ends as (

    select max(cohort_month + to_months(months_since)) as last_month
    from {{ ref('fct_retention') }}
    where edition != 'streaming'

),

-- Only cohorts that have had the time.
cohorts as (

    select
        retention.cohort_month,
        retention.cohort_users,
        unnest(range(1, 13)) as months_since
    from {{ ref('fct_retention') }} as retention
    where retention.edition != 'streaming' and retention.months_since = 0

)

select
    cohorts.months_since,
    count(*) as cohorts,
    sum(cohorts.cohort_users) as newcomers,
    coalesce(sum(retention.active_users), 0) as back,
    round(coalesce(sum(retention.active_users), 0) / sum(cohorts.cohort_users), 4) as share
from cohorts
inner join ends on cohorts.cohort_month + to_months(cast(cohorts.months_since as integer)) <= ends.last_month
left join {{ ref('fct_retention') }} as retention
    on
        cohorts.cohort_month = retention.cohort_month
        and cohorts.months_since = retention.months_since
        and retention.edition != 'streaming'
group by cohorts.months_since
order by cohorts.months_since
