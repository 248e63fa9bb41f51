with ratings as (

    select distinct
        edition,
        user_key,
        cast(date_trunc('month', rated_at) as date) as month
    from {{ ref('fct_ratings') }}

),

firsts as (

    select
        user_key,
        min(month) as cohort_month
    from ratings
    group by user_key

),

cohorts as (

    select
        ratings.edition,
        firsts.cohort_month,
        date_diff('month', firsts.cohort_month, ratings.month) as months_since,
        count(*) as active_users
    from ratings
    inner join firsts on ratings.user_key = firsts.user_key
    group by ratings.edition, firsts.cohort_month, months_since

),

final as (

    select
        edition,
        cohort_month,
        cast(months_since as integer) as months_since,
        cast(first_value(active_users) over cohort as integer) as cohort_users,
        cast(active_users as integer) as active_users,
        round(active_users / first_value(active_users) over cohort, 6) as retention
    from cohorts
    window cohort as (partition by edition, cohort_month order by months_since) -- noqa: PRS

)

select * from final
